"""Run the package's jobs in tests."""

from myometrics_core.jobs import Job, run_job, run_jobs, running
from myometrics_core.times import utc_now

DELIVER = "myometrics_notifications.deliver"
EXPORT = "myometrics_notifications.export"


def deliver(message):
    """Run the job of one message; return whether an attempt was made."""
    return run_job(DELIVER, str(message.pk))


def deliver_due():
    """Run all due deliveries; return the number of attempts."""
    return run_jobs(DELIVER)


def write_exports():
    """Run all due exports; return the number of attempts."""
    return run_jobs(EXPORT)


def job_of(row):
    """The pending or dead job of a message or export."""
    return Job.objects.get(key=str(row.pk))


def make_due():
    """Make every pending job due now."""
    Job.objects.pending().update(run_at=utc_now())


def end_pauses():
    """End the pauses of kinds whose service was down."""
    running._paused_until.clear()
