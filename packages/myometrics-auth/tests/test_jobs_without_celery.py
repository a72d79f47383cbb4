"""Reset mails of a site without Celery, also if a worker is killed while it sends."""

from pathlib import Path

import pytest

from myometrics_testing.site_processes import SiteProcesses
from myometrics_testing.waiting import wait_for

SCRIPT = Path(__file__).with_name("mail_process.py")
EMAIL = "doctor@clinic.example"

pytestmark = pytest.mark.any_database


@pytest.fixture
def site(tmp_path):
    with SiteProcesses(SCRIPT, tmp_path) as site:
        site.run("request", EMAIL)
        yield site


def pending_mails(site):
    return site.execute(
        "SELECT attempts FROM myometrics_core_job WHERE kind LIKE '%send_password_reset'"
    )


def test_jobs_run_sends_the_mail(site):
    site.go()
    site.run("jobs_run", "--once")
    assert site.notes[1:] == [f"sent to {EMAIL}"]
    assert pending_mails(site) == []


def test_mail_of_a_killed_worker_is_sent_by_another(site):
    worker = site.start_worker()
    wait_for(lambda: site.notes)
    site.kill(worker)
    assert pending_mails(site) == [(1,)]
    site.go()
    site.start_worker()
    wait_for(lambda: not pending_mails(site))
    begin, begin_again, sent = site.notes
    assert begin == begin_again
    assert sent == f"sent to {EMAIL}"
