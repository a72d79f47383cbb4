"""Settings, checks, migrations and recurring jobs."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import time_machine
from conftest import NOON
from django.core import checks
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from myometrics_analytics.models import PendingChange, PullState, RollupState
from myometrics_analytics.pull.pulling import pull_status
from myometrics_core.jobs import Job, enqueue, run_all_jobs
from myometrics_core.times import utc_now
from myometrics_testing.waiting import PATIENCE


def ids_of(messages):
    return {message.id for message in messages if message.id.startswith("myometrics_analytics")}


@pytest.mark.django_db  # Django asks SQLite whether it has JSON
def test_default_settings_pass_every_check():
    assert ids_of(checks.run_checks()) == set()


@pytest.mark.django_db
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


@pytest.mark.celery
@pytest.mark.parametrize("name", ["check", "fold", "pull"])
def test_recurring_job_has_a_celery_task_of_its_name(name):
    from celery import current_app

    from myometrics_analytics import tasks

    assert getattr(tasks, name).name == f"myometrics_analytics.{name}"
    assert f"myometrics_analytics.{name}" in current_app.tasks


@pytest.mark.celery
@pytest.mark.django_db
def test_celery_task_runs_the_due_job(user, publish_upload):
    from myometrics_analytics import tasks

    publish_upload(user)
    enqueue("myometrics_analytics.fold", key="")
    assert [tasks.fold.apply().get() for _ in range(2)] == [1, 0]
    assert not PendingChange.objects.exists()


@pytest.mark.django_db
def test_recurring_jobs_fold_check_and_pull(user, publish_upload):
    with time_machine.travel(NOON, tick=False):
        publish_upload(user)
        run_all_jobs()
    assert not PendingChange.objects.exists()
    assert RollupState.objects.get().checked_at is not None
    jobs = Job.objects.filter(kind__startswith="myometrics_analytics.")
    seconds = {job.kind: (job.run_at - NOON).total_seconds() for job in jobs}
    assert seconds["myometrics_analytics.fold"] == 10
    assert seconds["myometrics_analytics.pull"] == 60
    check = jobs.get(kind="myometrics_analytics.check")
    assert (check.run_at.hour, check.run_at.minute) == (3, 17)


@pytest.mark.django_db(transaction=True)
def test_migration_moves_the_state_of_pulls_to_the_job():
    executor = MigrationExecutor(connection)
    executor.migrate([("myometrics_analytics", "0003_client_reports")])
    old = executor.loader.project_state(("myometrics_analytics", "0003_client_reports")).apps
    due_at = utc_now() + timedelta(minutes=10)
    old.get_model("myometrics_analytics", "PullState").objects.create(
        pk=1, due_at=due_at, failures=3, last_error="x" * 300, etag='"v1"'
    )
    call_command("migrate", "myometrics_analytics", verbosity=0)
    assert PullState.objects.get().etag == '"v1"'
    assert pull_status() == (due_at, 3, "x" * 200)
    executor = MigrationExecutor(connection)
    executor.migrate([("myometrics_analytics", "0003_client_reports")])
    state = old.get_model("myometrics_analytics", "PullState").objects.get()
    assert (state.due_at, state.failures, state.etag) == (due_at, 3, '"v1"')
    assert not Job.objects.exists()
    call_command("migrate", "myometrics_analytics", verbosity=0)


def test_package_works_without_celery(tmp_path):
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    subprocess.run(
        [sys.executable, "-c", WITHOUT_CELERY],
        env=environment,
        cwd=Path(__file__).parent,
        check=True,
        timeout=PATIENCE,
    )


WITHOUT_CELERY = """
import os
from myometrics_testing.site_processes import hide_celery
hide_celery()
os.environ["DJANGO_SETTINGS_MODULE"] = "analytics_test_settings"
import django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
call_command("check")
call_command("jobs_run", "--once")
from myometrics_analytics.models import RollupState
assert RollupState.objects.get().checked_at and RollupState.objects.get().folded_at
"""


@pytest.mark.django_db
def test_fold_command_prints_number_of_changes(user, publish_upload, capsys):
    publish_upload(user)
    call_command("analytics_fold")
    assert "Folded 1 changes." in capsys.readouterr().out
