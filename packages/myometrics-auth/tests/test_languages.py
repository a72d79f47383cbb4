"""Translations of mails and messages; codes are not translated."""

from __future__ import annotations

import pytest
from conftest import NEW_PASSWORD, send
from django.core import mail

from myometrics_auth.jobs import SendPasswordReset
from myometrics_core.jobs import run_jobs

pytestmark = pytest.mark.django_db


def reset_mail(api, doctor):
    send(api, "post", "auth/password-reset/", {"email": doctor.email})
    assert run_jobs(SendPasswordReset.name) == 1
    return mail.outbox[-1]


def test_reset_mail_is_in_the_recipients_language(api, doctor, settings):
    settings.MYOMETRICS_AUTH = {"RECIPIENT_LANGUAGE": lambda user: "de"}
    message = reset_mail(api, doctor)
    assert message.subject == "Setzen Sie Ihr Passwort zurück"
    assert "Der Link gilt einmal." in message.body


def test_reset_mail_is_in_the_sites_language_by_default(api, doctor, settings):
    assert reset_mail(api, doctor).subject == "Reset your password"
    settings.LANGUAGE_CODE = "de"
    assert reset_mail(api, doctor).subject == "Setzen Sie Ihr Passwort zurück"


def test_german_site_has_german_details_and_same_codes(api, doctor, settings):
    settings.LANGUAGE_CODE = "de"
    answer = send(api, "post", "auth/login/", {"email": doctor.email, "password": NEW_PASSWORD})
    assert answer.status_code == 401
    assert answer.json() == {
        "detail": "Ungültige Anmeldedaten",
        "code": "invalid_credentials",
        "field_errors": {},
    }


def test_accept_language_has_no_effect_without_locale_middleware(api, doctor):
    body = {"email": doctor.email, "password": NEW_PASSWORD}
    api.credentials(HTTP_ACCEPT_LANGUAGE="de")
    answer = send(api, "post", "auth/login/", body)
    assert answer.json()["detail"] == "Invalid credentials"
