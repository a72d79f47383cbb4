"""Unsafe settings are found by ``manage.py check``, each by an id."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.checks import run_checks

SAFE_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]


@pytest.fixture(autouse=True)
def _safe(settings):
    settings.PASSWORD_HASHERS = SAFE_HASHERS


def found():
    return {message.id for message in run_checks() if message.id.startswith("myometrics_auth.")}


def test_a_safe_site_is_clean():
    assert found() == set()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ([], "E001"),
        ({"RECORD_SIGN_IN": False}, "E002"),
        ({"RECORD_SIGN_INS": "yes"}, "E003"),
        ({"ACCESS_TOKEN_LIFETIME": 900}, "E003"),
        ({"ACCESS_TOKEN_LIFETIME": timedelta(0)}, "E003"),
        ({"FAILED_SIGN_IN_LIMIT": 0}, "E003"),
        ({"MFA_REQUIRED_ROLES": ["nurse"]}, "E003"),
        ({"MFA_ENCRYPTION_KEYS": []}, "E003"),
        ({"SIGNING_KEY": "x" * 31}, "W010"),
        ({"SIGNING_KEYS": ["x" * 31]}, "W010"),
        ({"SIGNING_KEYS": ["y" * 32, "x" * 31]}, "W010"),
        ({"SIGNING_KEYS": []}, "E003"),
        ({"SIGNING_KEYS": ["y" * 32, ""]}, "E003"),
        ({"SIGNING_KEYS": ["y" * 32, None]}, "E003"),
        ({"SIGNING_KEYS": "y" * 32}, "E003"),
        ({"MFA_ENCRYPTION_KEYS": ["x" * 31]}, "W011"),
        ({"ACCESS_TOKEN_LIFETIME": timedelta(minutes=16)}, "W012"),
        ({"REFRESH_TOKEN_LIFETIME": timedelta(days=8)}, "W013"),
    ],
)
def test_an_unsafe_value_in_our_dictionary_is_found(settings, value, number):
    settings.MYOMETRICS_AUTH = value
    assert found() == {f"myometrics_auth.{number}"}


@pytest.mark.parametrize(
    ("name", "value", "numbers"),
    [
        ("SECRET_KEY", "short", {"W010", "W011"}),
        ("SECRET_KEY_FALLBACKS", ["short"], {"W010", "W011"}),
        ("PASSWORD_RESET_TIMEOUT", 7 * 86400, {"W014"}),
        ("AUTH_PASSWORD_VALIDATORS", [], {"W015"}),
        ("PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"], {"W016"}),
    ],
)
def test_an_unsafe_setting_of_django_is_found(settings, name, value, numbers):
    setattr(settings, name, value)
    assert found() == {f"myometrics_auth.{number}" for number in numbers}


def test_a_user_model_that_lacks_what_auth_keeps_is_found():
    site = """
from django.conf import settings
from myometrics_testing.settings import package_settings
settings.configure(**package_settings(apps=["myometrics_auth"], urls="auth_test_urls"))
import django; django.setup()
from django.core.checks import run_checks
print([message.id for message in run_checks() if message.is_serious()])
"""
    command = [sys.executable, "-c", site]
    folder = Path(__file__).parent
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "['myometrics_auth.E010']"


def test_tokens_that_no_endpoint_accepts_are_found(settings):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"]
    }
    assert found() == {"myometrics_auth.W017"}
