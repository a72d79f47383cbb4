"""System checks, by id."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks

from myometrics_notifications.checks import check_kind_templates
from myometrics_notifications.kinds import NotificationKind
from myometrics_testing.clinic_site.models import Person

pytestmark = pytest.mark.django_db


def ids():
    return {problem.id for problem in run_checks() if "notifications" in problem.id}


def test_default_site_has_no_problems():
    assert ids() == set()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (["not a dictionary"], "myometrics_notifications.E001"),
        ({"RETRY_BASIS": 1}, "myometrics_notifications.E002"),
        ({"MAX_ATTEMPTS": "many"}, "myometrics_notifications.E003"),
        ({"MAX_ATTEMPTS": 0}, "myometrics_notifications.E003"),
        ({"RECIPIENT_LANGUAGE": "no.such.function"}, "myometrics_notifications.E003"),
    ],
)
def test_invalid_settings_are_an_error(settings, value, expected):
    settings.MYOMETRICS_NOTIFICATIONS = value

    assert expected in ids()


def test_kind_without_templates_is_an_error(use_kind):
    class Bare(NotificationKind):
        name = "bare"
        title = "Bare"

    use_kind(Bare())

    assert ids() == {"myometrics_notifications.E010"}
    assert [problem.msg.split()[2].rpartition("/")[2] for problem in check_kind_templates()] == [
        "body.txt",
        "body.html",
    ]


@pytest.mark.parametrize("timeout", [60, 3600])
def test_lease_shorter_than_smtp_conversation_is_an_error(settings, timeout):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": timeout}

    assert ids() == {"myometrics_notifications.E011"}


def test_user_model_without_email_is_a_warning(monkeypatch):
    monkeypatch.setattr(Person, "EMAIL_FIELD", "mail_address", raising=False)

    assert ids() == {"myometrics_notifications.W010"}


def test_links_to_localhost_are_a_warning(settings):
    settings.MYOMETRICS = {"API_URL": "http://localhost:8001/api"}

    assert ids() == {"myometrics_notifications.W011"}
    settings.DEBUG = True
    assert ids() == set()


def test_site_without_health_log_gets_a_hint(settings):
    settings.INSTALLED_APPS = [
        app for app in settings.INSTALLED_APPS if app != "myometrics_core.health_log"
    ]

    assert ids() == {"myometrics_notifications.I012"}
