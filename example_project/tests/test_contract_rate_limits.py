"""Decisions, "Rate limits": three buckets, their keys, and exact counts."""

import contextlib
from datetime import datetime

import pytest
import time_machine
from conftest import PASSWORD, assert_error, client_of, make_user, send_json
from rest_framework.test import APIClient

from myometrics_core.times import utc_now

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_hashes")]


@pytest.fixture(autouse=True)
def _stopped_clock():
    """Stop the clock: all requests of a test are within one minute."""
    with time_machine.travel(utc_now(), tick=False):
        yield


WRONG = {"email": "unknown@clinic.example", "password": "wrong"}


def assert_limited(answer, at_most):
    body = assert_error(answer, 429)
    assert body["code"] == "throttled"
    assert answer["Retry-After"].isdigit()
    assert 1 <= int(answer["Retry-After"]) <= at_most
    return body


def statuses(times, send):
    return [send().status_code for _ in range(times)]


def address_and_email(request, view, bucket):
    """A key for clinics behind one address."""
    return f"{request.META['REMOTE_ADDR']} {request.data.get('email')}"


@pytest.fixture
def time_machine_at():
    """A stopped clock that can be shifted."""

    @contextlib.contextmanager
    def travel(moment):
        with time_machine.travel(
            datetime.fromisoformat(moment.replace("Z", "+00:00")), tick=False
        ) as c:
            yield c

    return travel


PUBLIC = {
    "/api/auth/login/": WRONG,
    "/api/auth/register/": {},
    "/api/auth/token/refresh/": {"refresh": "x"},
    "/api/auth/password-reset/": {"email": "x@clinic.example"},
    "/api/auth/password-reset/confirm/": {"uid": "x", "token": "x", "new_password": "x"},
    "/api/auth/login/mfa/": {"mfa_token": "x", "code": "000000"},
}


class TestAuth:
    @pytest.mark.parametrize("path", PUBLIC)
    def test_public_endpoint_allows_five_requests_a_minute_per_address(self, path):
        def send(address="192.0.2.1"):
            return send_json(APIClient(REMOTE_ADDR=address), "POST", path, PUBLIC[path])

        assert 429 not in statuses(5, send)
        assert_limited(send(), at_most=60)
        assert send("192.0.2.2").status_code != 429

    def test_each_endpoint_has_its_own_bucket(self):
        client = APIClient()
        for path, body in PUBLIC.items():
            assert 429 not in statuses(5, lambda p=path, b=body: send_json(client, "POST", p, b))
            assert_limited(send_json(client, "POST", path, body), at_most=60)

    @pytest.mark.parametrize("path", PUBLIC)
    def test_malformed_bodies_count_too(self, path):
        def send():
            return APIClient().generic("POST", path, b"{", "application/json")

        assert statuses(5, send) == [400] * 5
        assert_limited(send(), at_most=60)

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/api/auth/logout/", {"refresh": "x"}),
            ("/api/auth/change-password/", {"old_password": "x", "new_password": "y"}),
        ],
    )
    def test_signed_in_requests_count_per_user(self, doctor, path, body):
        addresses = iter(range(1, 250))

        def send(user=doctor):
            client = client_of(user)
            return client.post(path, body, format="json", REMOTE_ADDR=f"192.0.2.{next(addresses)}")

        assert statuses(5, send) == [400] * 5
        assert_limited(send(), at_most=60)
        assert send(make_user("other@clinic.example")).status_code == 400

    def test_refresh_counts_per_session(self, doctor):
        def tokens():
            answer = send_json(
                APIClient(REMOTE_ADDR="192.0.2.9"),
                "POST",
                "/api/auth/login/",
                {"email": doctor.email, "password": PASSWORD},
            )
            return answer.json()["refresh"]

        first, second = tokens(), tokens()

        def refresh(token, address="192.0.2.1"):
            client = APIClient(REMOTE_ADDR=address)
            return send_json(client, "POST", "/api/auth/token/refresh/", {"refresh": token})

        assert statuses(5, lambda: refresh(first)) == [200] * 5
        assert_limited(refresh(first), at_most=60)
        assert_limited(refresh(first, "192.0.2.2"), at_most=60)
        assert refresh(second).status_code == 200

    def test_valid_login_over_limit_is_rejected(self, doctor):
        client = APIClient()
        assert (
            statuses(5, lambda: send_json(client, "POST", "/api/auth/login/", WRONG)) == [401] * 5
        )
        right = {"email": doctor.email, "password": PASSWORD}
        assert_limited(send_json(client, "POST", "/api/auth/login/", right), at_most=60)

    def test_headers_do_not_evade_limit(self, doctor):
        statuses(5, lambda: send_json(APIClient(), "POST", "/api/auth/login/", WRONG))
        for headers in (
            {"HTTP_X_FORWARDED_FOR": "6.6.6.6"},
            {"HTTP_FORWARDED": "for=6.6.6.6"},
            {"HTTP_AUTHORIZATION": client_of(doctor)._credentials.get("HTTP_AUTHORIZATION", "x")},
        ):
            answer = APIClient().post("/api/auth/login/", WRONG, format="json", **headers)
            assert_limited(answer, at_most=60)

    def test_profile_and_sessions_are_not_in_auth_bucket(self, doctor):
        client = client_of(doctor)
        assert statuses(12, lambda: client.get("/api/auth/user/")) == [200] * 12
        assert statuses(12, lambda: client.get("/api/auth/sessions/")) == [200] * 12
        assert statuses(8, lambda: send_json(client, "PATCH", "/api/auth/user/", {})) == [200] * 8

    def test_unsupported_method_does_not_count(self):
        client = APIClient()
        assert statuses(8, lambda: client.get("/api/auth/login/")) == [405] * 8
        assert send_json(client, "POST", "/api/auth/login/", WRONG).status_code == 401


class TestApi:
    def test_hundred_requests_a_minute_count_over_all_endpoints(self, doctor):
        client = client_of(doctor)
        paths = [
            "/api/auth/user/",
            "/api/users/me/activity/",
            "/api/users/me/notifications/",
            "/api/auth/sessions/",
        ]
        for number in range(100):
            assert client.get(paths[number % len(paths)]).status_code == 200
        for path in (*paths, "/api/health/"):
            assert_limited(client.get(path), at_most=60)
        entry = {"action": "a", "resource_type": "b", "resource_id": "c"}
        assert_limited(send_json(client, "POST", "/api/audit-logs/", entry), at_most=60)
        again = client_of(doctor, address="192.0.2.77")
        assert_limited(again.get("/api/auth/user/"), at_most=60)
        assert (
            client_of(make_user("other@clinic.example")).get("/api/auth/user/").status_code == 200
        )

    def test_anonymous_requests_do_not_count_for_users(self, doctor):
        for _ in range(110):
            assert APIClient().get("/api/auth/user/").status_code == 401
        assert client_of(doctor).get("/api/auth/user/").status_code == 200


class TestExport:
    def test_two_exports_pass_within_an_hour_and_third_does_not(self, doctor):
        client = client_of(doctor)
        for kind in ("csv", "json"):
            answer = client.get("/api/users/me/export/", {"format": kind})
            assert answer.status_code == 200
            assert b"".join(answer.streaming_content)
        for kind in ("csv", "json"):
            assert_limited(client.get("/api/users/me/export/", {"format": kind}), at_most=3600)
        assert client.get("/api/auth/user/").status_code == 200
        other = client_of(make_user("other@clinic.example"))
        assert other.get("/api/users/me/export/").status_code == 200

    def test_retry_after_is_exact_to_the_second(self, doctor, time_machine_at):
        with time_machine_at("2026-03-02T10:00:00Z") as clock:
            client = client_of(doctor)
            assert client.get("/api/users/me/export/").status_code == 200
            clock.shift(600)
            client = client_of(doctor)
            assert client.get("/api/users/me/export/").status_code == 200
            clock.shift(600)
            client = client_of(doctor)
            refused = client.get("/api/users/me/export/")
            assert_error(refused, 429)
            wait = int(refused["Retry-After"])
            assert wait in (2400, 2401)
            clock.shift(wait)
            assert client_of(doctor).get("/api/users/me/export/").status_code == 200


class TestSettings:
    @pytest.mark.parametrize(
        ("bucket", "rate", "path", "count"),
        [
            ("auth", "2/minute", "/api/auth/login/", 2),
            ("api", "3/minute", "/api/auth/user/", 3),
            ("export", "1/hour", "/api/users/me/export/", 1),
        ],
    )
    def test_rates_are_settings(self, settings, doctor, bucket, rate, path, count):
        rates = {**settings.MYOMETRICS["RATE_LIMITS"], bucket: rate}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": rates}
        client = client_of(doctor)

        def send():
            if bucket == "auth":
                return send_json(client, "POST", path, WRONG)
            return client.get(path)

        assert 429 not in statuses(count, send)
        assert_limited(send(), at_most=3600)

    def test_rate_limit_key_is_configurable(self, settings, doctor):
        settings.MYOMETRICS = {
            **settings.MYOMETRICS,
            "RATE_LIMIT_KEY": f"{__name__}.address_and_email",
        }
        client = APIClient()
        assert (
            statuses(5, lambda: send_json(client, "POST", "/api/auth/login/", WRONG)) == [401] * 5
        )
        assert_limited(send_json(client, "POST", "/api/auth/login/", WRONG), at_most=60)
        right = {"email": doctor.email, "password": PASSWORD}
        assert send_json(client, "POST", "/api/auth/login/", right).status_code == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/api/auth/login/", "/api/auth/register/"])
def test_five_of_sixty_simultaneous_requests_pass(run_concurrently, path):
    def send():
        return send_json(APIClient(), "POST", path, WRONG if "login" in path else {}).status_code

    answers = run_concurrently(send, times=60)
    assert sorted(answers) == [400 if "register" in path else 401] * 5 + [429] * 55
