"""Whatever class of Django's a failing database raises, what copes without it copes."""

import pytest
from django.db import DatabaseError, InterfaceError, OperationalError, connection
from django.test import Client
from limits import parse

from myometrics_core.api.throttling import RateLimiter, storage_for
from myometrics_core.jobs import Job
from myometrics_core.recurring_jobs import CheckHealth
from myometrics_testing.waiting import PATIENCE

RATE = parse("5/hour")

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("long_dependency_timeouts"),
]


@pytest.fixture(params=[OperationalError, DatabaseError, InterfaceError])
def failing(request):
    """Within it every statement on this thread's connection fails."""

    def fail(*args):
        raise request.param("connection already closed")

    return connection.execute_wrapper(fail)


def test_the_rate_limiter_counts_on_its_own(settings, failing, monkeypatch):
    monkeypatch.setattr("myometrics_core.api.throttling.LOCAL_SECONDS", PATIENCE)
    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": "database://"}
    limiter = RateLimiter()
    with failing:
        allowed = [limiter.hit(RATE, "scope", "key").allowed for _ in range(7)]
    assert allowed == [True] * 5 + [False] * 2


def test_the_storage_of_rate_limits_says_that_it_can_not_be_read(failing):
    storage = storage_for("database://")
    with failing:
        assert storage.check() is False
    assert storage.check() is True


def test_who_asks_for_health_and_can_not_be_told_gets_a_503(person, failing):
    client = Client()
    client.force_login(person)
    with failing:
        answer = client.get("/api/health/")
    assert answer.status_code == 503
    assert answer.json()["code"] == "database_unavailable"


def test_the_health_task_says_that_it_could_not_record(failing, caplog):
    with failing:
        CheckHealth().run(Job())
    assert "Health could not be recorded" in caplog.text
