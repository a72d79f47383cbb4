"""Migrations: none is missing, and pending work becomes jobs."""

import uuid
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from job_runs import DELIVER, EXPORT

from myometrics_core.jobs import Job, run_jobs
from myometrics_core.times import utc_now
from myometrics_notifications.models import ExportFile, Message

BEFORE = [("myometrics_notifications", "0004_message_summary_indexes")]


@pytest.fixture
def models_before(transactional_db):
    """The models before pending work became jobs; the database is migrated back and forth."""
    executor = MigrationExecutor(connection)
    executor.migrate(BEFORE)
    yield executor.loader.project_state(BEFORE[0]).apps.get_model
    call_command("migrate", "myometrics_notifications", verbosity=0)


def test_no_migration_is_missing(db):
    call_command("makemigrations", "myometrics_notifications", check=True, dry_run=True)


def test_migration_makes_jobs_of_pending_messages_and_exports(models_before, media, mailoutbox):
    user_model = get_user_model()
    user = user_model.objects.create(email="ada@clinic.example")
    due_at, leased_until = utc_now() - timedelta(hours=1), utc_now() + timedelta(hours=1)

    def make_message(number, **fields):
        return models_before("myometrics_notifications", "Message").objects.create(
            kind="upload_completed",
            recipient_id=user.pk,
            context={"upload_id": f"u{number}", "at": utc_now().isoformat()},
            dedupe_key=str(number),
            next_attempt_at=due_at,
            **fields,
        )

    failed = make_message(1, attempts=7, last_error="SMTPDataError 451")
    claimed = make_message(2, lease_token=uuid.uuid4(), leased_until=leased_until)
    for number, state in enumerate(("sent", "dead", "dropped", "summarised")):
        make_message(10 + number, state=state)
    export, _ = (
        models_before("myometrics_notifications", "ExportFile").objects.create(
            user_id=user_id, export_format="csv", storage_name=name, next_attempt_at=due_at
        )
        for user_id, name in ((user.pk, "a.csv"), (None, "b.csv"))
    )

    call_command("migrate", "myometrics_notifications", verbosity=0)

    jobs = {(job.kind, job.key): job for job in Job.objects.all()}
    assert set(jobs) == {
        (DELIVER, str(failed.pk)),
        (DELIVER, str(claimed.pk)),
        (EXPORT, str(export.pk)),
    }
    job = jobs[DELIVER, str(failed.pk)]
    assert (job.state, job.attempts, job.last_error) == ("pending", 7, "SMTPDataError 451")
    assert (job.run_at, job.payload, job.claimed_until) == (due_at, {}, None)
    assert jobs[DELIVER, str(claimed.pk)].claimed_until == leased_until
    assert [run_jobs(EXPORT), run_jobs(DELIVER)] == [1, 2]  # the mail of the export is new
    assert len(mailoutbox) == 2
    assert ExportFile.objects.get(pk=export.pk).state == "ready"
    Job.objects.update(claimed_until=utc_now())
    assert run_jobs(DELIVER) == 1
    assert not Message.objects.filter(state="queued").exists()


def test_migration_can_be_reversed(models_before):
    user = get_user_model().objects.create(email="ada@clinic.example")
    call_command("migrate", "myometrics_notifications", verbosity=0)
    message = Message.objects.create(kind="upload_completed", recipient=user, dedupe_key="1")
    Job.objects.create(kind=DELIVER, key=str(message.pk))

    MigrationExecutor(connection).migrate(BEFORE)

    before = models_before("myometrics_notifications", "Message").objects.get()
    assert (before.state, before.attempts) == ("queued", 0)
    assert before.next_attempt_at <= utc_now()
    assert not Job.objects.exists()
