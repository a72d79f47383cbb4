"""System checks that every package registers about the site."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.core import checks, mail
from django.db.utils import ConnectionHandler

from myometrics_core.conf import site_checks
from myometrics_core.health.probes import EmailProbe
from myometrics_core.mail import mail_checks

HAS_MAILERS = hasattr(mail, "mailers")
CONSOLE = "django.core.mail.backends.console.EmailBackend"
OTHER_MAILERS = [{}, {"other": {"BACKEND": CONSOLE}}]
UNUSABLE = [
    {"MAILERS": mailers}
    for mailers in (
        *OTHER_MAILERS,
        {"default": {"BACKEND": "no.such.Backend"}},
        {"default": {"OPTIONS": {}}},  # SMTP without a host
        None,
    )
]
WITHOUT_SERVER = [{"MAILERS": mailers} for mailers in OTHER_MAILERS]
if not HAS_MAILERS:  # Django before 6.1 ignores the setting, and so do we
    UNUSABLE = [{"EMAIL_BACKEND": "no.such.Backend"}, {"EMAIL_BACKEND": None, "MAILERS": {}}]
    WITHOUT_SERVER = [{"EMAIL_BACKEND": CONSOLE, "MAILERS": {"default": {}}}]


class ToLogs:
    """A router that sends every write to the database ``logs``."""

    def db_for_write(self, model, **hints):
        return "logs"


@pytest.fixture
def found(monkeypatch):
    """Return the checks' messages by id, from a registry of their own."""

    def run(register, *args, **kwargs):
        registry = checks.registry.CheckRegistry()
        monkeypatch.setattr(checks, "register", registry.register)
        register(*args, **kwargs)
        return {message.id: message for message in registry.run_checks()}

    return run


def site(found, **kwargs):
    config = apps.get_app_config("myometrics_health_log")
    return found(site_checks.register_site_checks, config, app="myometrics_core", **kwargs)


def test_valid_site_has_no_message(found):
    assert site(found) == {}


def test_missing_time_zone_support_is_an_error(found, settings):
    settings.USE_TZ = False
    message = site(found)["myometrics_core.E020"]
    assert message.level == checks.ERROR
    assert "needs USE_TZ = True" in message.msg


def test_package_without_times_needs_no_time_zone_support(found, settings):
    settings.USE_TZ = False
    assert site(found, needs_times=False) == {}


@pytest.mark.parametrize(
    ("engine", "ids"),
    [
        ("other_vendor", {"myometrics_core.E021"}),
        ("django.db.backends.dummy", set()),
        ("no.such.engine", {"myometrics_core.W021"}),
    ],
)
def test_unsupported_database_is_an_error(found, monkeypatch, engine, ids):
    other = ConnectionHandler({"default": {"ENGINE": engine, "NAME": "x"}})
    monkeypatch.setattr(site_checks, "connections", other)
    assert set(site(found)) == ids


def test_router_to_another_database_is_an_error(found, settings, monkeypatch):
    settings.DATABASE_ROUTERS = [ToLogs()]
    other = ConnectionHandler({"default": {}, "logs": {"ENGINE": "django.db.backends.sqlite3"}})
    monkeypatch.setattr(site_checks, "connections", other)
    message = site(found)["myometrics_core.E022"]
    assert "'logs'" in message.msg


def test_check_that_raises_becomes_a_warning(found):
    def check_nothing(**kwargs):
        raise KeyError("CACHES")

    (message,) = found(site_checks.register_check, check_nothing, app="clinic").values()
    assert (message.id, message.level) == ("clinic.W021", checks.WARNING)
    assert "check_nothing failed: KeyError: 'CACHES'" in message.msg


def test_generator_that_raises_becomes_a_warning(found):
    def check_some(**kwargs):
        yield checks.Info("one", id="clinic.I001")
        raise ValueError("odd")

    assert set(found(site_checks.register_check, check_some, app="clinic")) == {"clinic.W021"}


@pytest.mark.parametrize("mail_settings", UNUSABLE)
def test_unusable_mailer_is_a_warning(found, settings, mail_settings):
    for name, value in mail_settings.items():
        setattr(settings, name, value)
    assert set(found(mail_checks.register_mail_check, "clinic")) == {"clinic.W020"}


@pytest.mark.parametrize("mail_settings", WITHOUT_SERVER)
def test_mail_without_a_server_is_not_configured(found, settings, mail_settings):
    for name, value in mail_settings.items():
        setattr(settings, name, value)
    assert not EmailProbe().is_configured()
