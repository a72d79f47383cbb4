"""Password validators after NIST SP 800-63B-4, the list of breached passwords, and NFC."""

from __future__ import annotations

import hashlib
import unicodedata
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

import pytest
from asgiref.sync import async_to_sync
from conftest import NEW_PASSWORD, PASSWORD, query_of, send
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.hashers import check_password, make_password
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from myometrics_auth.breached_passwords import BreachedPasswords, write_breached_passwords
from myometrics_auth.checks import check_passwords
from myometrics_auth.password_validation import (
    KnownBreachedPasswordValidator,
    SecondFactorLengthValidator,
)
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.second_factor import second_factor_remove

RULES = "myometrics_auth.password_validation"
COMPOSED = "fünf-graue-Möwen"
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
COMMON = ["password", "Passwort1", COMPOSED, "x" * 300, "p\u0000q"]


@pytest.fixture
def listed(tmp_path):
    """The path of a file of breached passwords."""
    source = tmp_path / "list.txt"
    source.write_text("\r\n".join(COMMON), encoding="utf-8", newline="")
    call_command("breached_passwords", str(tmp_path / "file"), "--from", str(source), verbosity=0)
    return tmp_path / "file"


def is_accepted(validator, password, user=None):
    try:
        validator.validate(password, user)
    except ValidationError:
        return False
    return True


class TestLength:
    validator = SecondFactorLengthValidator()

    def test_fifteen_characters_without_a_second_factor(self, db, doctor):
        for user in (None, doctor, get_user_model()(email="new@clinic.example")):
            assert not is_accepted(self.validator, "x" * 14, user)
            assert is_accepted(self.validator, "x" * 15, user)

    @pytest.mark.django_db
    def test_eight_characters_beside_a_second_factor(self, enrolled, doctor):
        assert not is_accepted(self.validator, "x" * 7, doctor)
        assert is_accepted(self.validator, "x" * 8, doctor)
        second_factor_remove(user=doctor)
        assert not is_accepted(self.validator, "x" * 8, doctor)

    def test_characters_are_counted_in_composed_form(self):
        assert not is_accepted(self.validator, unicodedata.normalize("NFD", "ü" * 14))
        assert is_accepted(self.validator, "\N{SNOWMAN}" * 15)

    @pytest.mark.django_db
    def test_applies_to_change_reset_and_registration(self, settings, doctor, enrolled, api):
        settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"{RULES}.SecondFactorLengthValidator"}]
        body = {"old_password": PASSWORD, "new_password": "x" * 8}
        assert send(enrolled, "post", "auth/change-password/", body).status_code == 200
        second_factor_remove(user=doctor)
        doctor.refresh_from_db()
        body = {**query_of(reset_link(doctor)), "new_password": "y" * 14}
        answer = send(api, "post", "auth/password-reset/confirm/", body)
        assert list(answer.json()["field_errors"]) == ["new_password"]
        body = {"email": "new@clinic.example", "password": "y" * 14, "clinicName": ""}
        answer = send(api, "post", "auth/register/", {**body, "firstName": "J", "lastName": "S"})
        assert list(answer.json()["field_errors"]) == ["password"]
        assert "15" in answer.json()["detail"]

    @pytest.mark.django_db
    def test_shorter_password_still_signs_in_without_the_factor(
        self, settings, doctor, enrolled, sign_in
    ):
        settings.AUTH_PASSWORD_VALIDATORS = [{"NAME": f"{RULES}.SecondFactorLengthValidator"}]
        body = {"old_password": PASSWORD, "new_password": "x" * 8}
        send(enrolled, "post", "auth/change-password/", body)
        second_factor_remove(user=doctor)
        client = sign_in(doctor, "x" * 8)
        body = {"old_password": "x" * 8, "new_password": "y" * 8}
        assert send(client, "post", "auth/change-password/", body).status_code == 400

    def test_help_names_both_lengths(self):
        assert "15" in self.validator.get_help_text()
        assert "8" in self.validator.get_help_text()


class TestBreachedPasswords:
    def test_listed_passwords_are_refused(self, listed):
        validator = KnownBreachedPasswordValidator(file=str(listed))
        for password in [*COMMON, DECOMPOSED]:
            assert not is_accepted(validator, password)
        for password in (PASSWORD, "Password", "", "passwor", "password "):
            assert is_accepted(validator, password)

    def test_hashes_with_counts_are_read(self, tmp_path):
        hashes = [hashlib.sha1(text.encode()).hexdigest() for text in ("one", "two", "three")]
        source = tmp_path / "list.txt"
        source.write_text(f"{hashes[0].upper()}:12\n{hashes[1]}:3\n{hashes[2]}\n")
        for options, expected in (([], 3), (["--seen", "4"], 2), (["--count", "1"], 1)):
            target = tmp_path / "file"
            call_command("breached_passwords", target, "--from", source, *options, verbosity=0)
            assert len(BreachedPasswords(target)) == expected
            assert "one" in BreachedPasswords(target)
        assert "two" not in BreachedPasswords(target)

    def test_line_in_another_encoding_is_read(self, tmp_path):
        source = tmp_path / "list.txt"
        source.write_bytes("caf\xe9\n".encode("latin-1") + b"next\n")
        with open(source, "rb") as lines:
            assert write_breached_passwords(tmp_path / "file", lines) == 2
        assert "next" in BreachedPasswords(tmp_path / "file")

    @given(passwords=st.sets(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"))))
    def test_exactly_the_listed_passwords_are_found(self, tmp_path_factory, passwords):
        folder = tmp_path_factory.mktemp("lists")
        (folder / "list").write_bytes("\n".join([*passwords, ""]).encode())
        with open(folder / "list", "rb") as lines:
            write_breached_passwords(folder / "file", lines)
        found = BreachedPasswords(folder / "file")
        normalized = {unicodedata.normalize("NFC", text) for text in passwords - {""}}
        assert len(found) == len(normalized)
        assert all(text in found for text in normalized)
        assert not any(f"{text}+" in found for text in normalized if f"{text}+" not in normalized)

    def test_existing_file_is_kept_when_the_list_is_missing(self, listed, tmp_path):
        before = listed.read_bytes()
        with pytest.raises(CommandError, match="missing"):
            call_command("breached_passwords", str(listed), "--from", str(tmp_path / "missing"))
        assert listed.read_bytes() == before
        assert {path.name for path in tmp_path.iterdir()} == {"file", "list.txt"}

    def test_count_must_be_positive(self, listed):
        with pytest.raises(CommandError, match="positive"):
            call_command("breached_passwords", "x", "--from", str(listed), "--count", "-1")

    @pytest.mark.parametrize("content", [b"", b"password\n", b"breached passwords 1\nabc"])
    def test_other_files_are_refused(self, tmp_path, content):
        path = tmp_path / "other"
        path.write_bytes(content)
        for file in (str(path), str(tmp_path / "missing"), None):
            with pytest.raises(ImproperlyConfigured):
                KnownBreachedPasswordValidator(file=file)

    def test_unusable_file_is_reported_by_check(self, settings):
        settings.AUTH_PASSWORD_VALIDATORS = [
            {"NAME": f"{RULES}.KnownBreachedPasswordValidator", "OPTIONS": {"file": "/missing"}}
        ]
        assert "myometrics_auth.E011" in [found.id for found in check_passwords()]

    @pytest.mark.django_db
    def test_registration_refuses_a_listed_password(self, settings, listed, api):
        settings.AUTH_PASSWORD_VALIDATORS = [
            {"NAME": f"{RULES}.KnownBreachedPasswordValidator", "OPTIONS": {"file": str(listed)}}
        ]
        body = {"email": "new@clinic.example", "password": "Passwort1", "clinicName": ""}
        answer = send(api, "post", "auth/register/", {**body, "firstName": "J", "lastName": "S"})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["password"]


@pytest.fixture
def service():
    """A look-up service: ``requests`` are the paths and paddings, ``lines`` the response."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.requests.append((self.path, self.headers["Add-Padding"], self.headers))
            server.may_answer.wait(30)
            body = server.body
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.status, server.body, server.may_answer = [], 200, b"", Event()
    server.may_answer.set()
    server.url = f"http://127.0.0.1:{server.server_port}/range/"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_url_of_the_service_must_be_http():
    with pytest.raises(ImproperlyConfigured):
        KnownBreachedPasswordValidator(online=True, url="file:///etc/")


class TestLookUp:
    digest = hashlib.sha1(COMPOSED.encode()).hexdigest().upper()

    def validator(self, service, timeout=30.0):
        return KnownBreachedPasswordValidator(online=True, url=service.url, timeout=timeout)

    def test_only_five_digits_leave(self, service):
        service.body = f"{'0' * 35}:9\r\n{self.digest[5:]}:2\r\n".encode()
        assert not is_accepted(self.validator(service), DECOMPOSED)
        [(path, padding, headers)] = service.requests
        assert (path, padding) == (f"/range/{self.digest[:5]}", "true")
        assert self.digest[5:] not in str(headers)

    def test_padding_is_no_match(self, service):
        service.body = f"{self.digest[5:]}:0\r\n".encode()
        assert is_accepted(self.validator(service), COMPOSED)

    @pytest.mark.parametrize(
        ("status", "body"), [(503, b""), (200, b"\xff\xfe"), (200, b"<html>"), (200, b"")]
    )
    def test_unusable_response_accepts_the_password(self, service, status, body):
        service.status, service.body = status, body
        assert is_accepted(self.validator(service), COMPOSED)

    def test_slow_service_accepts_the_password(self, service, caplog):
        service.may_answer.clear()
        assert is_accepted(self.validator(service, timeout=0.05), COMPOSED)

    def test_service_that_is_down_accepts_and_logs_no_secret(self, caplog):
        validator = KnownBreachedPasswordValidator(
            online=True, url="http://127.0.0.1:1/range/", timeout=30.0
        )
        assert is_accepted(validator, COMPOSED)
        assert "can't be looked up" in caplog.text
        assert COMPOSED not in caplog.text
        assert self.digest[:5] not in caplog.text


def stored(user):
    return get_user_model().objects.values_list("password", flat=True).get(pk=user.pk)


@pytest.mark.django_db
class TestNormalization:
    @pytest.mark.parametrize("chosen", [COMPOSED, DECOMPOSED])
    def test_every_form_signs_in(self, make_user, sign_in, chosen):
        user = make_user(password=chosen)
        assert check_password(COMPOSED, stored(user))
        for entered in (COMPOSED, DECOMPOSED):
            sign_in(user, entered)
            assert authenticate(None, username=user.email, password=entered) == user
            assert user.check_password(entered)
            assert async_to_sync(user.acheck_password)(entered)
        assert not user.check_password("f\u00fcnf-graue-Moewen")
        assert not user.check_password(None)

    @pytest.fixture
    def before(self, make_user):
        """A user whose password an earlier release hashed as entered."""
        user = make_user(is_staff=True)
        get_user_model().objects.filter(pk=user.pk).update(password=make_password(DECOMPOSED))
        return user

    def test_earlier_hash_is_replaced_at_sign_in(self, before, sign_in):
        client = sign_in(before, DECOMPOSED)
        assert check_password(COMPOSED, stored(before))
        assert client.get("/api/auth/user/").status_code == 200
        sign_in(before, COMPOSED)

    def test_earlier_hash_is_replaced_at_the_admin_site(self, before):
        browser = Client()
        form = {"username": before.email, "password": DECOMPOSED}
        assert browser.post("/admin/login/", form).status_code == 302
        assert check_password(COMPOSED, stored(before))
        assert browser.get("/admin/password_change/").status_code == 200

    def test_failed_sign_in_changes_no_hash(self, before, api):
        earlier = stored(before)
        for password in (COMPOSED, "wrong"):
            body = {"email": before.email, "password": password}
            assert send(api, "post", "auth/login/", body).status_code == 401
        assert stored(before) == earlier

    def test_replacement_loses_to_a_concurrent_change(self, before):
        user = get_user_model().objects.get(pk=before.pk)
        get_user_model().objects.filter(pk=before.pk).update(password=make_password(NEW_PASSWORD))
        user.normalize_stored_password(DECOMPOSED)
        assert check_password(NEW_PASSWORD, stored(before))

    def test_change_and_reset_store_the_normalized_form(self, doctor, sign_in, api):
        body = {"old_password": PASSWORD, "new_password": DECOMPOSED}
        assert send(sign_in(doctor), "post", "auth/change-password/", body).status_code == 200
        assert check_password(COMPOSED, stored(doctor))
        doctor.refresh_from_db()
        body = {**query_of(reset_link(doctor)), "new_password": DECOMPOSED + "!"}
        assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 200
        assert check_password(COMPOSED + "!", stored(doctor))

    def test_superuser_command_and_admin_form_store_it_too(self, monkeypatch, client, doctor):
        monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", DECOMPOSED)
        call_command("createsuperuser", "--noinput", "--email", "root@clinic.example", verbosity=0)
        root = get_user_model().objects.get(email="root@clinic.example")
        assert check_password(COMPOSED, root.password)
        client.force_login(root)
        form = {"password1": DECOMPOSED, "password2": DECOMPOSED}
        path = f"/admin/myometrics_auth/user/{doctor.pk}/password/"
        assert client.post(path, form).status_code == 302
        assert check_password(COMPOSED, stored(doctor))
