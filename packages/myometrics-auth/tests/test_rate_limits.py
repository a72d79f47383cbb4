"""Limits on auth's endpoints: five a minute, each for itself, before any hashing."""

from __future__ import annotations

from collections import Counter

import pytest
from conftest import NEW_PASSWORD, PASSWORD, refresh_by, send
from hosts_own import QuickPBKDF2
from rest_framework.test import APIClient

from myometrics_core.api import rate_limiter

LIMITS = {"auth": "5/minute", "api": "100/minute", "export": "2/hour"}


@pytest.fixture(autouse=True)
def _limited(settings, db, clock):
    """The clock stands still: all requests of a test come within a minute."""
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": LIMITS}
    rate_limiter.reset()


def statuses(call, times=7):
    return [call().status_code for _ in range(times)]


@pytest.mark.django_db
class TestAuthBucket:
    @pytest.mark.parametrize(
        ("path", "status"),
        [
            ("login/", 400),
            ("login/mfa/", 400),
            ("register/", 400),
            ("password-reset/", 400),
            ("password-reset/confirm/", 400),
            ("token/refresh/", 400),
        ],
    )
    def test_counts_anonymous_callers_by_address(self, api, path, status):
        answers = [send(api, "post", f"auth/{path}", {}) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [status] * 5 + [429] * 2
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
        assert answers[-1].json()["code"] == "throttled"
        elsewhere = APIClient(REMOTE_ADDR="192.0.2.9")
        assert send(elsewhere, "post", f"auth/{path}", {}).status_code == status

    def test_counts_each_endpoint_for_itself(self, api):
        for path in ("login/", "register/", "password-reset/", "token/refresh/"):
            assert statuses(lambda path=path: send(api, "post", f"auth/{path}", {}), 5) == [400] * 5

    def test_is_not_shared_by_a_forged_header(self, doctor):
        body = {"email": doctor.email, "password": "wrong"}
        answers = [
            send(APIClient(HTTP_X_FORWARDED_FOR=f"10.0.0.{n}"), "post", "auth/login/", body)
            for n in range(7)
        ]
        assert [answer.status_code for answer in answers] == [401] * 5 + [429] * 2

    def test_counts_the_signed_in_by_user(self, doctor, make_user, sign_in):
        change = {"old_password": "wrong", "new_password": NEW_PASSWORD}
        client, other = sign_in(doctor), sign_in(make_user())
        assert statuses(lambda: send(client, "post", "auth/change-password/", change), 6) == [
            *[400] * 5,
            429,
        ]
        assert send(other, "post", "auth/change-password/", change).status_code == 400

    def test_counts_refreshing_by_session(self, doctor, sign_in, api):
        tokens = [sign_in(doctor).tokens["refresh"] for _ in range(2)]
        for token in tokens:
            answers = statuses(lambda token=token: refresh_by(api, token), 6)
            assert answers == [200] * 5 + [429]
        assert refresh_by(api, "x").status_code == 401

    def test_refuses_before_hashing(self, api, doctor, settings):
        settings.PASSWORD_HASHERS = ["hosts_own.QuickPBKDF2"]
        body = {"email": doctor.email, "password": "wrong"}
        assert statuses(lambda: send(api, "post", "auth/login/", body), 5) == [401] * 5
        QuickPBKDF2.computed.clear()
        assert send(api, "post", "auth/login/", body).status_code == 429
        assert QuickPBKDF2.computed == []


@pytest.mark.django_db
class TestApiBucket:
    def test_profile_and_sessions_count_in_api_bucket(self, doctor, sign_in):
        client = sign_in(doctor)
        seen = Counter(statuses(lambda: client.get("/api/auth/user/"), 50))
        seen += Counter(statuses(lambda: client.get("/api/auth/sessions/"), 50))
        assert seen == {200: 100}
        assert client.get("/api/auth/user/").status_code == 429


@pytest.mark.django_db
class TestExportBucket:
    def test_lets_one_of_each_format_pass_within_the_hour(self, doctor, sign_in):
        client = sign_in(doctor)
        paths = ["csv", "json", "csv"]
        answers = [client.get(f"/api/users/me/export/?format={path}") for path in paths]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert 3500 < int(answers[-1].headers["Retry-After"]) <= 3600


@pytest.mark.django_db(transaction=True)
def test_five_of_sixty_concurrent_sign_ins_pass(doctor, run_concurrently):
    body = {"email": doctor.email, "password": PASSWORD}
    answers = run_concurrently(lambda: send(APIClient(), "post", "auth/login/", body), times=60)
    assert Counter(getattr(answer, "status_code", answer) for answer in answers) == {
        200: 5,
        429: 55,
    }
