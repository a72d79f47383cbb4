"""Settings, checks, migrations, tasks and the beat schedule."""

from __future__ import annotations

from typing import Any

import pytest
from celery import current_app
from django.core import checks
from django.core.management import call_command

from myometrics_analytics import tasks
from myometrics_analytics.beat import beat_schedule
from myometrics_analytics.models import PendingChange


def ids_of(messages: list[Any]) -> set[str]:
    return {message.id for message in messages if message.id.startswith("myometrics_analytics")}


def test_default_settings_pass_every_check():
    assert ids_of(checks.run_checks()) == set()


@pytest.mark.parametrize(
    ("name", "value", "check"),
    [
        ("MYOMETRICS_ANALYTICS", ["a list"], "E001"),
        ("MYOMETRICS_ANALYTICS", {"PULL_INTERVALL": 5}, "E002"),
        ("MYOMETRICS_ANALYTICS", {"PULL_INTERVAL": 0}, "E003"),
        ("MYOMETRICS_ANALYTICS", {"PULL_INTERVAL": "often"}, "E003"),
        ("MYOMETRICS_ANALYTICS", {"IMAGE_SERVICE_URL": "file:///etc/passwd"}, "E003"),
        ("MYOMETRICS_ANALYTICS", {"UPLOAD_SOURCE": "no.such.Thing"}, "E003"),
        ("MYOMETRICS_ANALYTICS", {"FOLD_BATCH": -1}, "E003"),
        ("USE_TZ", False, "E010"),
        ("MYOMETRICS_ANALYTICS", {"CLINIC_FIELD": "practice"}, "W010"),
        ("MYOMETRICS_ANALYTICS", {"ROLE_FIELD": "function"}, "W010"),
    ],
)
def test_invalid_setting_has_a_check(settings, name, value, check):
    setattr(settings, name, value)
    assert f"myometrics_analytics.{check}" in ids_of(checks.run_checks())


@pytest.mark.django_db
def test_models_and_migrations_agree():
    call_command("makemigrations", "myometrics_analytics", "--check", "--dry-run", verbosity=0)


def test_scheduled_tasks_exist():
    for entry in beat_schedule.values():
        assert entry["task"] in current_app.tasks
        assert entry["options"]["expires"] > 0


@pytest.mark.django_db
def test_tasks_fold_check_and_pull(user, publish_upload, settings):
    publish_upload(user)
    assert tasks.fold.apply().get() == 1
    assert not PendingChange.objects.exists()
    assert tasks.check.apply().get() == 0
    assert tasks.pull.apply().get() is None


@pytest.mark.django_db
def test_fold_command_prints_number_of_changes(user, publish_upload, capsys):
    publish_upload(user)
    call_command("analytics_fold")
    assert "Folded 1 changes." in capsys.readouterr().out
