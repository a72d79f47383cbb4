"""Concurrent requests."""

from __future__ import annotations

import threading
from collections import Counter

import pyotp
import pytest
from conftest import NEW_PASSWORD, PASSWORD, post_form, query_of, send, sign_out
from django.contrib.auth import get_user_model
from django.test import RequestFactory
from rest_framework.exceptions import NotFound
from rest_framework.test import APIClient

from myometrics_auth.account_links import (
    confirmation_url,
    invitation_url,
    undo_url,
    verification_url,
)
from myometrics_auth.encryption import encrypt_secret
from myometrics_auth.models import (
    EmailChange,
    Invitation,
    RecoveryCode,
    Session,
    SignInFailures,
    TotpDevice,
)
from myometrics_auth.reset_links import reset_link
from myometrics_auth.services.invitations import invitation_create, invitation_revoke
from myometrics_auth.services.login_throttle import LoginThrottle
from myometrics_auth.services.second_factor import (
    recovery_codes_create,
    second_factor_take,
    totp_enrol,
)
from myometrics_auth.services.sessions import session_start
from myometrics_auth.services.users import user_delete, user_update
from myometrics_auth.tokens import access_token
from myometrics_core.db import atomic_write
from myometrics_core.jobs import Job
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.django_db(transaction=True)


def statuses(outcomes):
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert not errors, errors
    return Counter(answer.status_code for answer in outcomes)


def test_one_of_twenty_concurrent_registrations_succeeds(run_concurrently):
    body = {"password": PASSWORD, "firstName": "Jane", "lastName": "Smith"}
    spellings = ["new@clinic.example", "NEW@clinic.example", "New@Clinic.Example"]

    def register(number):
        return lambda: send(
            APIClient(), "post", "auth/register/", {**body, "email": spellings[number % 3]}
        )

    answers = run_concurrently(register(number) for number in range(20))
    assert statuses(answers) == {201: 1, 400: 19}
    for answer in answers:
        if answer.status_code == 400:
            assert list(answer.json()["field_errors"]) == ["email"]
    assert get_user_model().objects.count() == 1


def test_many_can_sign_in_at_once_with_one_account(doctor, run_concurrently):
    body = {"email": doctor.email, "password": PASSWORD}
    answers = run_concurrently(lambda: send(APIClient(), "post", "auth/login/", body), times=25)
    assert statuses(answers) == {200: 25}
    assert Session.objects.count() == 25


@pytest.fixture
def outdated_hash(doctor, settings):
    """The doctor's password is stored under a hash that the site has since given up."""
    settings.PASSWORD_HASHERS = [
        "hosts_own.QuickPBKDF2",
        "django.contrib.auth.hashers.MD5PasswordHasher",
    ]
    assert doctor.password.startswith("md5$")


def test_all_get_in_while_an_outdated_hash_is_renewed(doctor, outdated_hash, run_concurrently):
    body = {"email": doctor.email, "password": PASSWORD}
    answers = run_concurrently(lambda: send(APIClient(), "post", "auth/login/", body), times=8)
    assert statuses(answers) == {200: 8}
    doctor.refresh_from_db()
    assert doctor.password.startswith("quick_pbkdf2$")


def test_renewing_a_hash_does_not_undo_a_password_change(doctor, outdated_hash):
    reading = get_user_model().objects.get(pk=doctor.pk)
    doctor.set_password(NEW_PASSWORD)
    doctor.save()
    assert reading.check_password(PASSWORD)
    doctor.refresh_from_db()
    assert doctor.check_password(NEW_PASSWORD)


@pytest.mark.parametrize("change", [{"role": "doctor"}, {"isActive": False}])
def test_one_of_two_administrators_demoting_each_other_stays(
    make_user, sign_in, run_concurrently, change
):
    one, two = make_user(role="admin"), make_user(role="admin")
    deposing = {one.pk: sign_in(two), two.pk: sign_in(one)}
    answers = run_concurrently(
        [
            lambda key=key, client=client: send(client, "put", f"users/{key}/", change)
            for key, client in deposing.items()
        ]
    )
    assert statuses(answers)[200] == 1
    assert get_user_model().objects.filter(role="admin", is_active=True).count() == 1


def test_one_of_administrators_erasing_themselves_stays(make_user, sign_in, run_concurrently):
    clients = [sign_in(make_user(role="admin")) for _ in range(6)]
    answers = run_concurrently(
        [lambda client=client: client.delete("/api/users/me/") for client in clients]
    )
    assert statuses(answers) == {204: 5, 409: 1}
    assert get_user_model().objects.count() == 1


def test_rows_about_locked_administrators_can_be_written(
    make_user, run_concurrently, database_vendor
):
    one, two = make_user(role="admin"), make_user(role="admin")
    is_changed, is_written = threading.Event(), threading.Event()
    waits = PATIENCE if database_vendor == "postgresql" else 0.2  # SQLite has one writer at a time

    def change():
        with atomic_write():
            user_update(actor=one, user_id=two.pk, changes={"role": "doctor"}, request=None)
            is_changed.set()
            return is_written.wait(waits)

    def write():
        is_changed.wait(PATIENCE)
        for user in (one, two):
            Session.objects.create(user=user, expires_at=utc_now())
        is_written.set()

    outcomes = run_concurrently([change, write])
    assert outcomes == [True, None] or database_vendor == "sqlite", outcomes


def test_a_user_erased_by_several_at_once_is_erased_once(
    doctor, administrator, sign_in, run_concurrently
):
    clients = [sign_in(administrator) for _ in range(4)]
    answers = run_concurrently(
        [lambda client=client: client.delete(f"/api/users/{doctor.pk}/") for client in clients]
    )
    assert statuses(answers) == {204: 1, 404: 3}


def test_a_password_changed_twice_at_once_is_changed_once(doctor, sign_in, run_concurrently):
    clients = [sign_in(doctor) for _ in range(4)]
    passwords = [f"{NEW_PASSWORD}-{number}" for number in range(4)]

    def change(client, password):
        body = {"old_password": PASSWORD, "new_password": password}
        return lambda: send(client, "post", "auth/change-password/", body)

    answers = run_concurrently(map(change, clients, passwords))
    counts = statuses(answers)
    assert counts[200] == 1
    assert counts[400] + counts[401] == 3
    assert Session.objects.live().count() == 1


def test_no_session_of_the_old_password_survives_its_change(doctor, sign_in, run_concurrently):
    changer = sign_in(doctor)
    change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
    login = {"email": doctor.email, "password": PASSWORD}
    answers = run_concurrently(
        [lambda: send(changer, "post", "auth/change-password/", change)]
        + [lambda: send(APIClient(), "post", "auth/login/", login) for _ in range(15)]
    )
    assert answers[0].status_code == 200
    assert set(statuses(answers[1:])) <= {200, 401}
    assert Session.objects.live().count() == 1


def test_a_session_is_ended_once(doctor, sign_in, run_concurrently):
    here, there = sign_in(doctor), sign_in(doctor)
    answers = run_concurrently(lambda: sign_out(here, there.tokens["refresh"]), times=6)
    assert statuses(answers) == {200: 1, 400: 5}


def test_a_reset_link_works_once(doctor, run_concurrently):
    link = query_of(reset_link(doctor))

    def confirm(number):
        body = {**link, "new_password": f"{NEW_PASSWORD}-{number}"}
        return lambda: send(APIClient(), "post", "auth/password-reset/confirm/", body)

    answers = run_concurrently(confirm(number) for number in range(6))
    assert statuses(answers) == {200: 1, 400: 5}


def test_concurrent_failures_are_all_counted(run_concurrently):
    throttle = LoginThrottle("unknown@clinic.example", "192.0.2.1")
    outcomes = run_concurrently(throttle.record_failure, times=19)
    assert outcomes == [None] * 19
    assert SignInFailures.objects.get().failures == 19


def client_like(client):
    """Another client with the token of ``client``: one is not for several threads."""
    return APIClient(HTTP_AUTHORIZATION=client._credentials["HTTP_AUTHORIZATION"])


def mfa_token_of(user):
    body = {"email": user.email, "password": PASSWORD}
    return send(APIClient(), "post", "auth/login/", body).json()["mfa_token"]


def second_half(token, code):
    return send(APIClient(), "post", "auth/login/mfa/", {"mfa_token": token, "code": code})


@pytest.fixture
def device(clock, doctor):
    secret = pyotp.random_base32()
    TotpDevice.objects.create(
        user=doctor, secret=encrypt_secret(secret, owner=doctor.pk), confirmed_at=utc_now()
    )
    return pyotp.TOTP(secret)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("change-password", {"old_password": "wrong", "new_password": NEW_PASSWORD}),
        ("mfa/enrol", {"password": "wrong"}),
        ("mfa/disable", {"password": "wrong", "code": "000000"}),
    ],
)
def test_wrong_passwords_sent_at_once_are_all_counted_and_recorded(
    doctor, sign_in, run_concurrently, published, path, body
):
    client = sign_in(doctor)
    published.clear()
    answers = run_concurrently(
        lambda: send(client_like(client), "post", f"auth/{path}/", body), times=20
    )
    assert statuses(answers) == {400: 20}
    assert SignInFailures.objects.get().failures == 20
    assert [event.action for event in published] == ["login_failed"] * 20
    body = {"email": doctor.email, "password": PASSWORD}
    assert send(APIClient(), "post", "auth/login/", body).status_code == 401


def test_wrong_codes_sent_at_once_stay_within_the_limit(doctor, device, run_concurrently):
    token = mfa_token_of(doctor)
    answers = run_concurrently(lambda: second_half(token, "000000"), times=20)
    assert statuses(answers) == {401: 20}
    assert {answer.json()["code"] for answer in answers} == {"invalid_credentials"}
    assert SignInFailures.objects.get().failures == 10
    assert second_half(token, device.at(utc_now())).status_code == 401


def test_mfa_token_sent_many_times_at_once_makes_one_session(doctor, device, run_concurrently):
    token, codes = mfa_token_of(doctor), recovery_codes_create(user=doctor)
    codes += [device.at(utc_now())] * 10
    answers = run_concurrently([lambda code=code: second_half(token, code) for code in codes])
    assert statuses(answers) == {200: 1, 401: 19}
    refused = {answer.json().get("code") for answer in answers if answer.status_code == 401}
    assert refused == {"token_not_valid"}
    assert Session.objects.count() == 1
    assert RecoveryCode.objects.count() >= 9


def test_wrong_codes_beside_a_right_one_do_not_use_the_mfa_token_up(
    doctor, device, run_concurrently
):
    token = mfa_token_of(doctor)
    codes = ["000000"] * 5 + [device.at(utc_now())]
    answers = run_concurrently([lambda code=code: second_half(token, code) for code in codes])
    assert statuses(answers) == {200: 1, 401: 5}
    assert Session.objects.count() == 1


def test_two_mfa_tokens_of_one_user_make_two_sessions(doctor, device, run_concurrently):
    codes = recovery_codes_create(user=doctor)
    pairs = [(mfa_token_of(doctor), codes[number]) for number in range(6)]
    answers = run_concurrently([lambda pair=pair: second_half(*pair) for pair in pairs])
    assert statuses(answers) == {200: 6}


def test_enrolment_confirmed_many_times_at_once_is_confirmed_once(
    clock, doctor, sign_in, run_concurrently
):
    client = sign_in(doctor)
    answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
    body = {"code": pyotp.parse_uri(answer.json()["otpauth_url"]).at(utc_now())}
    answers = run_concurrently(
        lambda: send(client_like(client), "post", "auth/mfa/confirm/", body), times=6
    )
    assert statuses(answers) == {200: 1, 409: 5}
    assert RecoveryCode.objects.count() == 10


def test_enrolment_at_once_with_sign_ins_leaves_none_without_it(
    clock, doctor, sign_in, run_concurrently
):
    client = sign_in(doctor)
    answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
    code = pyotp.parse_uri(answer.json()["otpauth_url"]).at(utc_now())
    body = {"email": doctor.email, "password": PASSWORD}

    def log_in():
        return send(APIClient(), "post", "auth/login/", body)

    def confirm():
        return send(client, "post", "auth/mfa/confirm/", {"code": code})

    answers = run_concurrently([log_in] * 10 + [confirm] + [log_in] * 10)
    assert statuses(answers) == {200: 21}
    (session,) = Session.objects.live().filter(user=doctor)
    assert session.second_factor


def test_recovery_codes_replaced_with_one_code_at_once_are_replaced_once(
    doctor, device, run_concurrently
):
    code = recovery_codes_create(user=doctor)[0]
    session = session_start(user=doctor, request=RequestFactory().get("/"), second_factor=True)
    header = f"Bearer {access_token(session)}"
    body = {"password": PASSWORD, "code": code}

    def replace():
        client = APIClient(HTTP_AUTHORIZATION=header)
        return send(client, "post", "auth/mfa/recovery-codes/", body)

    answers = run_concurrently(replace, times=6)
    assert statuses(answers) == {200: 1, 400: 5}


def test_reset_of_unverified_account_removes_previous_access(run_concurrently, make_user):
    for number in range(5):
        user = make_user(f"victim{number}@clinic.example", self_registered=True)
        sessions = [session_start(user=user, request=RequestFactory().get("/")) for _ in range(3)]
        secret, _url = totp_enrol(user=user, password=PASSWORD)
        link, code = query_of(reset_link(user)), pyotp.TOTP(secret).at(utc_now())

        def confirm(session, code=code):
            client = APIClient(HTTP_AUTHORIZATION=f"Bearer {access_token(session)}")
            return lambda: send(client, "post", "auth/mfa/confirm/", {"code": code})

        def enrol_again(session):
            client = APIClient(HTTP_AUTHORIZATION=f"Bearer {access_token(session)}")
            return lambda: send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})

        def log_in(user=user):
            body = {"email": user.email, "password": PASSWORD}
            return send(APIClient(), "post", "auth/login/", body)

        def reset(link=link):
            body = {**link, "new_password": NEW_PASSWORD}
            return send(APIClient(), "post", "auth/password-reset/confirm/", body)

        answers = run_concurrently(
            [reset, log_in, enrol_again(sessions[0]), *map(confirm, sessions)]
        )
        assert set(statuses(answers)) <= {200, 201, 400, 401, 409}
        assert answers[0].status_code == 200
        assert not TotpDevice.objects.filter(user=user).exists()
        assert not RecoveryCode.objects.filter(user=user).exists()
        assert not Session.objects.live().filter(user=user).exists()


def test_a_code_sent_many_times_at_once_counts_once(doctor, device, run_concurrently):
    code = device.now()
    outcomes = run_concurrently(lambda: second_factor_take(user=doctor, code=code), times=10)
    assert Counter(outcomes) == {True: 1, False: 9}


def test_a_recovery_code_sent_many_times_at_once_counts_once(doctor, device, run_concurrently):
    code = recovery_codes_create(user=doctor)[0]
    outcomes = run_concurrently(lambda: second_factor_take(user=doctor, code=code), times=10)
    assert Counter(outcomes) == {True: 1, False: 9}
    assert RecoveryCode.objects.count() == 9


@pytest.fixture
def invited(make_user):
    """The body of a registration by invitation."""
    inviter = make_user(role="admin")
    invitation = invitation_create(
        actor=inviter, email="new@clinic.example", role="technician", request=None
    )
    return {
        "email": "new@clinic.example",
        "password": PASSWORD,
        "firstName": "A",
        "lastName": "B",
        **query_of(invitation_url(invitation)),
    }


def test_invitation_accepted_many_times_at_once_makes_one_account(invited, run_concurrently):
    answers = run_concurrently(
        lambda: send(APIClient(), "post", "auth/register/", invited), times=10
    )
    assert statuses(answers) == {201: 1, 400: 9}
    assert get_user_model().objects.get(email="new@clinic.example").role == "technician"


def test_invitation_accepted_and_revoked_at_once_does_one(invited, run_concurrently):
    invitation = Invitation.objects.select_related("inviter").get()

    def revoke():
        try:
            invitation_revoke(actor=invitation.inviter, invitation_id=invitation.pk, request=None)
        except NotFound:
            return "accepted"
        return "revoked"

    def accept():
        return send(APIClient(), "post", "auth/register/", invited).status_code

    outcome, status = run_concurrently([revoke, accept])
    assert (outcome, status) in (("revoked", 400), ("accepted", 201))


def test_address_invited_many_times_at_once_has_one_invitation(
    make_user, sign_in, run_concurrently
):
    clients = [sign_in(make_user(role="admin")) for _ in range(6)]
    body = {"email": "new@clinic.example", "role": "doctor"}
    answers = run_concurrently(
        [lambda c=client: send(c, "post", "users/invitations/", body) for client in clients]
    )
    assert statuses(answers) == {201: 1, 400: 5}
    assert Invitation.objects.count() == 1


def confirmations(users, email):
    """Functions that confirm a change of each user to ``email``, by its page."""

    def confirm(user):
        change = EmailChange.objects.create(user=user, old_email=user.email, new_email=email)
        link = confirmation_url(change)
        path = link[link.index("/api/") :]
        return lambda: post_form(APIClient(), path, password=PASSWORD)

    return [confirm(user) for user in users]


def test_one_of_many_users_confirms_the_same_new_address(make_user, run_concurrently):
    users = [make_user() for _ in range(6)]
    answers = run_concurrently(confirmations(users, "new@clinic.example"))
    assert statuses(answers) == {200: 1, 400: 5}
    assert get_user_model().objects.filter(email="new@clinic.example").count() == 1
    assert EmailChange.objects.exclude(confirmed_at=None).count() == 1


def test_address_given_up_and_registered_at_once_stays_reserved(make_user, run_concurrently):
    for number in range(4):
        user = make_user(f"old{number}@clinic.example")
        body = {"email": user.email, "password": PASSWORD, "firstName": "A", "lastName": "B"}
        (confirm,) = confirmations([user], f"new{number}@clinic.example")
        register = [lambda body=body: send(APIClient(), "post", "auth/register/", body)] * 4
        answers = run_concurrently([confirm, *register])
        assert statuses(answers) == {200: 1, 400: 4}


def test_change_confirmed_many_times_at_once_is_confirmed_once(doctor, run_concurrently):
    (confirm,) = confirmations([doctor], "new@clinic.example")
    assert statuses(run_concurrently(confirm, times=6)) == {200: 1, 404: 5}
    kinds = Job.objects.filter(kind="myometrics_auth.send_email_undo")
    assert kinds.count() == 1


def test_change_undone_many_times_at_once_is_undone_once(doctor, run_concurrently):
    (confirm,) = confirmations([doctor], "new@clinic.example")
    confirm()
    link = undo_url(EmailChange.objects.get())
    path = link[link.index("/api/") :]
    assert statuses(run_concurrently(lambda: APIClient().post(path), times=6)) == {200: 1, 404: 5}
    doctor.refresh_from_db()
    assert doctor.email == "doctor@clinic.example"


def test_takeover_ends_what_the_registering_user_does_at_once(make_user, run_concurrently):
    for number in range(4):
        user = make_user(f"victim{number}@clinic.example", self_registered=True)
        session = session_start(user=user, request=RequestFactory().get("/"))
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer {access_token(session)}")
        link = verification_url(user)
        path = link[link.index("/api/") :]
        change = {"old_password": PASSWORD, "new_password": NEW_PASSWORD}
        move = {"email": f"thief{number}@evil.example", "password": PASSWORD}
        log_in = {"email": user.email, "password": PASSWORD}
        answers = run_concurrently(
            [
                lambda path=path: APIClient().post(path),
                lambda c=client, body=change: send(c, "post", "auth/change-password/", body),
                lambda c=client, body=move: send(c, "post", "auth/email/", body),
                lambda body=log_in: send(APIClient(), "post", "auth/login/", body),
            ]
        )
        assert answers[0].status_code == 200
        user.refresh_from_db()
        assert not user.check_password(PASSWORD)
        assert not user.check_password(NEW_PASSWORD)
        assert not Session.objects.live().filter(user=user).exists()


def test_inviter_deleted_and_invitation_accepted_at_once_do_not_deadlock(
    invited, make_user, run_concurrently
):
    make_user(role="admin")
    inviter = Invitation.objects.select_related("inviter").get().inviter
    outcomes = run_concurrently(
        [
            lambda: user_delete(actor=None, user_id=inviter.pk, request=None),
            lambda: send(APIClient(), "post", "auth/register/", invited).status_code,
        ]
    )
    assert outcomes[0] is None
    assert outcomes[1] in (201, 400)
