"""The job that mails a reset link: once, within an hour, without addresses in logs."""

from __future__ import annotations

from datetime import timedelta

import pytest
from conftest import later, send
from django.core import mail
from django.db import transaction

from myometrics_auth.jobs import SendPasswordReset
from myometrics_auth.services.passwords import password_reset_request
from myometrics_core.jobs import Job, run_jobs
from myometrics_core.times import utc_now

KIND = SendPasswordReset.name

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    """Let the next run follow a failure of the mail server at once."""
    monkeypatch.setattr(SendPasswordReset, "pause", timedelta(0))


@pytest.fixture
def job(api, doctor):
    send(api, "post", "auth/password-reset/", {"email": "DOCTOR@clinic.example"})
    return Job.objects.get()


def run_again():
    """Run the job after its backoff."""
    with later(minutes=5):
        assert run_jobs(KIND) == 1


def test_job_holds_the_canonical_address_only(job):
    assert (job.kind, job.payload) == (KIND, {"email": "doctor@clinic.example"})
    assert "doctor" not in job.key


def test_job_is_written_for_an_unknown_address(api, db):
    send(api, "post", "auth/password-reset/", {"email": "unknown@clinic.example"})
    assert Job.objects.get().payload == {"email": "unknown@clinic.example"}


def test_each_request_is_mailed_once(job, doctor):
    password_reset_request(email=doctor.email)
    assert [run_jobs(KIND) for _ in range(3)] == [2, 0, 0]
    assert [message.to for message in mail.outbox] == [[doctor.email]] * 2


def test_rolled_back_request_is_not_mailed(doctor):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        password_reset_request(email=doctor.email)
        raise ZeroDivisionError
    assert run_jobs(KIND) == 0


def test_request_is_mailed_until_an_hour_has_passed(job, doctor):
    with later(minutes=59):
        password_reset_request(email=doctor.email)
        assert run_jobs(KIND) == 2
    assert len(mail.outbox) == 2


def test_request_older_than_an_hour_is_not_mailed(job):
    with later(minutes=61):
        assert run_jobs(KIND) == 1
    assert (mail.outbox, Job.objects.count()) == ([], 0)


def test_request_is_retried_while_the_server_is_down(job, settings):
    backend = settings.EMAIL_BACKEND
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    assert run_jobs(KIND) == 1
    failed = Job.objects.get()
    assert failed.last_error == "ConnectionRefusedError"
    assert timedelta(0) < failed.run_at - utc_now() <= timedelta(minutes=1)
    settings.EMAIL_BACKEND = backend
    run_again()
    assert len(mail.outbox) == 1


@pytest.mark.parametrize(
    ("response", "remains"),
    [("550 5.1.1 <{}> unknown here", False), ("450 4.2.1 <{}> is over quota", True)],
)
def test_log_has_no_address_when_the_server_refuses(
    job, doctor, mail_server, caplog, response, remains
):
    mail_server.at_recipient = response.format(doctor.email)
    with caplog.at_level("DEBUG"):
        run_jobs(KIND)
    # The test's own mail server logs its commands.
    records = [record for record in caplog.records if record.name != "mail.log"]
    logged = "\n".join(map(caplog.handler.format, records))
    assert "SMTPRecipientsRefused" in logged
    assert doctor.email not in logged
    assert "Traceback" not in logged
    assert Job.objects.exists() is remains


def test_retry_has_the_same_message_id(job, mail_server):
    message_ids = []

    def respond(envelope):
        lines = envelope.original_content.decode().splitlines()
        message_ids.extend(line for line in lines if line.startswith("Message-ID:"))
        return "451 4.3.0 try later" if len(message_ids) == 1 else "250 OK"

    mail_server.at_data = respond
    assert run_jobs(KIND) == 1
    run_again()
    assert len(mail_server.accepted) == 1
    assert len(message_ids) == 2
    assert len(set(message_ids)) == 1


def test_one_address_gets_at_most_twenty_mails_an_hour(doctor, make_user):
    other = make_user()
    for email in [doctor.email] * 25 + [other.email]:
        password_reset_request(email=email)
    assert run_jobs(KIND) == 26
    assert [sent.to for sent in mail.outbox] == [[doctor.email]] * 20 + [[other.email]]
    assert not Job.objects.exists()


def test_retries_do_not_count_as_mails(job, doctor, mail_server):
    mail_server.at_data = "451 4.3.0 try later"
    for _ in range(25):
        Job.objects.update(run_at=utc_now())
        assert run_jobs(KIND) == 1
    mail_server.at_data = "250 OK"
    run_again()
    assert len(mail_server.accepted) == 1


def test_job_that_kills_its_workers_is_deleted(job):
    Job.objects.update(attempts=SendPasswordReset.retry.max_attempts)
    assert run_jobs(KIND) == 1
    assert not Job.objects.exists()


@pytest.mark.parametrize("delete", ["erase", "delete"])
def test_deletion_of_a_user_removes_pending_mails(job, doctor, sign_in, delete):
    password_reset_request(email="other@clinic.example")
    if delete == "erase":
        assert sign_in(doctor).delete("/api/users/me/").status_code == 204
    else:
        doctor.delete()
    assert Job.objects.get().payload == {"email": "other@clinic.example"}


@pytest.mark.django_db(transaction=True)
def test_workers_at_once_send_one_mail(job, run_concurrently):
    assert sorted(run_concurrently(lambda: run_jobs(KIND), times=8)) == [0] * 7 + [1]
    assert len(mail.outbox) == 1


@pytest.mark.django_db(transaction=True)
def test_worker_takes_over_after_the_lease(job):
    Job.objects.update(claimed_by="0" * 32, claimed_until=utc_now() + SendPasswordReset.lease)
    assert run_jobs(KIND) == 0
    with later(minutes=3):
        assert run_jobs(KIND) == 1
    assert len(mail.outbox) == 1


@pytest.mark.celery
@pytest.mark.django_db(transaction=True)
def test_celery_task_sends_the_mail(job):
    pytest.importorskip("celery", reason="Celery is optional")
    from myometrics_auth.tasks import send_password_reset

    send_password_reset(job.key)
    assert len(mail.outbox) == 1


@pytest.mark.celery
@pytest.mark.django_db(transaction=True)
def test_mail_is_sent_at_once_by_eager_tasks(api, doctor, settings):
    pytest.importorskip("celery", reason="Celery is optional")
    settings.CELERY_TASK_ALWAYS_EAGER = True
    settings.MYOMETRICS = {**settings.MYOMETRICS, "JOB_RUNNER": "celery"}
    send(api, "post", "auth/password-reset/", {"email": doctor.email})
    assert [message.to for message in mail.outbox] == [[doctor.email]]
