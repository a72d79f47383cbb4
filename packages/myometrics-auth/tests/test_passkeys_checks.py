"""Settings of passkeys, their checks, and the rate limits of their endpoints."""

from __future__ import annotations

import pytest
from conftest import send
from django.core.checks import run_checks
from rest_framework.test import APIClient

from myometrics_auth.passkeys.conf import allowed_origins, relying_party_id
from myometrics_core.api import rate_limiter

pytestmark = pytest.mark.django_db  # checks of JSON fields ask the database on Django 6.1

PASSKEY_CHECKS = {"W040", "W041", "W042", "E043", "W043", "I044", "E003"}


def found():
    ids = {message.id.removeprefix("myometrics_auth.") for message in run_checks()}
    return ids & PASSKEY_CHECKS


@pytest.fixture
def configure(settings):
    settings.ALLOWED_HOSTS = ["admin.clinic.example"]

    def configure(*, frontend="https://clinic.example", **changes):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "FRONTEND_URL": frontend}
        settings.MYOMETRICS_AUTH = changes

    configure()
    return configure


def test_defaults_come_from_the_front_end(configure):
    assert relying_party_id() == "clinic.example"
    assert allowed_origins() == ["https://clinic.example"]
    assert found() == set()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"frontend": "http://127.0.0.1:3000"}, {"W040"}),
        ({"PASSKEY_ORIGINS": ["https://app.clinic.example", "https://other.example"]}, {"W041"}),
        ({"PASSKEY_ORIGINS": ["https://evilclinic.example"]}, {"W041", "W042"}),
        ({"PASSKEY_ORIGINS": ["http://clinic.example"]}, {"W041"}),
        ({"PASSKEY_RP_ID": "elsewhere.example"}, {"I044"}),
        ({"PASSKEY_RP_ID": "other.example"}, {"W042", "I044"}),
        ({"PASSKEY_POLICY": {"admin": {"attestation": "direct"}}}, {"W043"}),
        (
            {"PASSKEY_POLICY": {"admin": {"attestation": "direct", "aaguids": "/missing"}}},
            {"E043"},
        ),
    ],
)
def test_unusable_settings_are_reported(configure, changes, expected):
    configure(**changes)
    assert found() == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"PASSKEY_RP_ID": "https://clinic.example"},
        {"PASSKEY_RP_ID": "Clinic.example"},
        {"PASSKEY_RP_ID": "10.0.0.1"},
        {"PASSKEY_RP_ID": 7},
        {"PASSKEY_ORIGINS": "https://clinic.example"},
        {"PASSKEY_ORIGINS": ["https://clinic.example/"]},
        {"PASSKEY_ORIGINS": ["clinic.example"]},
        {"PASSKEY_ORIGINS": [None]},
        {"PASSKEY_POLICY": []},
        {"PASSKEY_POLICY": {"nurse": {}}},
        {"PASSKEY_POLICY": {"admin": []}},
        {"PASSKEY_POLICY": {"admin": {"sync": False}}},
        {"PASSKEY_POLICY": {"admin": {"synced": "no"}}},
        {"PASSKEY_POLICY": {"admin": {"attestation": "indirect"}}},
        {"PASSKEY_POLICY": {"admin": {"attestation": "direct", "aaguids": ["yubikey"]}}},
        {"PASSKEY_POLICY": {"admin": {"aaguids": ["d8522d9f-575b-4866-88a9-ba99fa02f35b"]}}},
    ],
)
def test_invalid_setting_is_an_error(configure, changes):
    configure(**changes)
    assert found() == {"E003"}


@pytest.mark.django_db
class TestRateLimits:
    @pytest.fixture(autouse=True)
    def _limits(self, settings):
        limits = {"auth": "2/hour", "api": "4/hour", "export": None}
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": limits}
        rate_limiter.reset()

    def statuses(self, client, method, path, times):
        return [send(client, method, path, {}).status_code for _ in range(times)]

    def test_options_of_a_sign_in_are_limited_by_themselves(self):
        seen = self.statuses(APIClient(), "post", "auth/login/passkey/options/", 101)
        assert seen == [200] * 100 + [429]

    def test_sign_in_counts_in_the_bucket_auth(self):
        seen = self.statuses(APIClient(), "post", "auth/login/passkey/verify/", 3)
        assert seen == [400, 400, 429]

    def test_list_is_limited_by_itself(self, doctor, sign_in):
        client = sign_in(doctor)
        assert self.statuses(client, "get", "auth/passkeys/", 101) == [200] * 100 + [429]
        assert client.get("/api/auth/user/").status_code == 200

    def test_body_is_limited_to_16_kib(self):
        body = {"mfa_token": "x" * 17_000}
        answer = send(APIClient(), "post", "auth/login/passkey/options/", body)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
