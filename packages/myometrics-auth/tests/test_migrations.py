"""Migrations that move data."""

import pytest
from django.core.management import call_command
from django.db import connection

from myometrics_auth.services.passwords import password_reset_request
from myometrics_core.jobs import Job

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def requests_of_the_previous_release():
    """Requests in the table of release 0.1, which the migration drops."""
    password_reset_request(email="first@clinic.example")
    password_reset_request(email="second@clinic.example")
    call_command("migrate", "myometrics_auth", "0006", verbosity=0)
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT id, email_canonical FROM myometrics_auth_passwordresetrequest")
            yield dict(cursor.fetchall())
    finally:
        call_command("migrate", verbosity=0)


def test_reset_jobs_become_requests_when_migrated_back(requests_of_the_previous_release):
    emails = list(requests_of_the_previous_release.values())
    assert emails == ["first@clinic.example", "second@clinic.example"]
    assert not Job.objects.exists()


def test_reset_requests_become_jobs(requests_of_the_previous_release):
    call_command("migrate", verbosity=0)
    jobs = {int(job.key): job.payload for job in Job.objects.all()}
    assert jobs == {pk: {"email": email} for pk, email in requests_of_the_previous_release.items()}
    assert "myometrics_auth_passwordresetrequest" not in connection.introspection.table_names()
