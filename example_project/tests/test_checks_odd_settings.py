"""No system check raises an exception, whatever the site's settings.

A check that raises ends every management command with a traceback that names no setting.
"""

from __future__ import annotations

import pytest
from django.core import checks, mail
from django.core.checks.registry import registry
from django.test import override_settings

SETTINGS = [
    {"CACHES": {}},
    {"CACHES": {"other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}},
    {"CACHES": {"default": {}}},
    {"DATABASES": {}},
    {"DATABASES": {"default": {}}},
    {"EMAIL_BACKEND": None},
    {"EMAIL_BACKEND": "no.such.Backend"},
    {"EMAIL_TIMEOUT": "soon"},
    {"DEFAULT_FROM_EMAIL": None},
    {"LOGGING": {}},
    {"LOGGING": None},
    {"ROOT_URLCONF": None},
    {"ROOT_URLCONF": "no.such.module"},
    {"TEMPLATES": []},
    {"TEMPLATES": [{"BACKEND": "no.such.Engine"}]},
    {"INSTALLED_APPS": ()},
    {"MIDDLEWARE": ()},
    {"MIDDLEWARE": None},
    {"MIDDLEWARE": ["no.such.Middleware"]},
    {"AUTH_USER_MODEL": "no_dot"},
    {"AUTH_USER_MODEL": "no.Model"},
    {"AUTH_PASSWORD_VALIDATORS": None},
    {"PASSWORD_HASHERS": []},
    {"PASSWORD_HASHERS": None},
    {"PASSWORD_RESET_TIMEOUT": None},
    {"SECRET_KEY": ""},
    {"SECRET_KEY_FALLBACKS": None},
    {"SESSION_ENGINE": "no.such.module"},
    {"STORAGES": {}},
    {"USE_TZ": False},
    {"USE_I18N": False},
    {"TIME_ZONE": None},
    {"LANGUAGE_CODE": "xx"},
    {"REST_FRAMEWORK": {}},
    {"REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": None}},
    {"REST_FRAMEWORK": {"DEFAULT_AUTHENTICATION_CLASSES": ["no.such.Class"]}},
    {"MYOMETRICS": None},
    {"MYOMETRICS_AUTH": "text"},
    {"MYOMETRICS_AUDIT": {"KEYS": 5, "ACTIVE_KEY": ["x"]}},
    {"MYOMETRICS_ANALYTICS": {"CLINIC_FIELD": 5, "ROLE_FIELD": "a__b"}},
    {"MYOMETRICS_NOTIFICATIONS": {"LEASE": 5, "SMTP_TIMEOUT": "soon"}},
    {"MYOMETRICS": {"READ_REPLICAS": [["default"]], "TRUSTED_PROXIES": [None, 5, "x"]}},
    {"MYOMETRICS": {"RATE_LIMIT_STORAGE": 5, "RATE_LIMITS": {"auth": object()}}},
    {"MYOMETRICS": {"API_URL": "http://[", "FRONTEND_URL": 5}},
    {"MYOMETRICS": {5: 6, "IS_ADMINISTRATOR": "example_module_that_fails.name"}},
]
if hasattr(mail, "mailers"):  # the site has MAILERS, and EMAIL_* are not allowed beside them
    SETTINGS = [odd for odd in SETTINGS if not next(iter(odd)).startswith("EMAIL_")]
MAILERS = [{}, None, [], {"default": None}, {"default": {"OPTIONS": {"alias": 1}}}, {"a": {}}]
OURS = ("myometrics_", "config")


def _checks():
    everything = registry.get_checks(include_deployment_checks=True)
    return [check for check in everything if check.__module__.startswith(OURS)]


def _run_all():
    return [
        message for check in _checks() for message in check(app_configs=None, databases=["default"])
    ]


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.django_db
@pytest.mark.parametrize("odd", SETTINGS, ids=repr)
def test_no_check_raises(odd):
    with override_settings(**odd):
        assert all(isinstance(message, checks.CheckMessage) for message in _run_all())


@pytest.mark.django_db
@pytest.mark.parametrize("mailers", MAILERS, ids=repr)
def test_no_check_raises_with_any_mailers(mailers):
    with override_settings(MAILERS=mailers):
        found = {message.id: message.level for message in _run_all()}
    assert max(found.values(), default=0) < checks.ERROR
    assert ("myometrics_auth.W020" in found) == hasattr(mail, "mailers")


def test_every_package_registers_checks_with_exception_handling():
    assert {check.__module__.partition(".")[0] for check in _checks()} >= {
        f"myometrics_{name}" for name in ("core", "auth", "audit", "analytics", "notifications")
    }


def test_site_without_time_zones_is_an_error_per_package():
    with override_settings(USE_TZ=False):
        found = {message.id for message in checks.run_checks() if message.level == checks.ERROR}
    assert found == {
        "myometrics_analytics.E010",
        *(f"myometrics_{name}.E020" for name in ("core", "auth", "audit", "notifications")),
    }


@pytest.mark.django_db
def test_site_with_public_address_has_no_messages(settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "API_URL": "https://clinic.example/api"}
    assert checks.run_checks(databases=["default"]) == []
