"""Behaviour without a database, for each class of Django's database errors."""

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
    """Make every statement on this thread's connection fail."""

    def fail(*args):
        raise request.param("connection already closed")

    return connection.execute_wrapper(fail)


def test_rate_limiter_counts_locally_without_database(settings, failing, monkeypatch):
    monkeypatch.setattr("myometrics_core.api.throttling.LOCAL_SECONDS", PATIENCE)
    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": "database://"}
    limiter = RateLimiter()
    with failing:
        allowed = [limiter.hit(RATE, "scope", "key").allowed for _ in range(7)]
    assert allowed == [True] * 5 + [False] * 2


def test_rate_limit_storage_check_fails_without_database(failing):
    storage = storage_for("database://")
    with failing:
        assert storage.check() is False
    assert storage.check() is True


def test_health_is_503_if_request_can_not_be_authenticated(user, failing):
    client = Client()
    client.force_login(user)
    with failing:
        answer = client.get("/api/health/")
    assert answer.status_code == 503
    assert answer.json()["code"] == "database_unavailable"


def test_health_check_logs_that_it_could_not_record(failing, caplog):
    with failing:
        CheckHealth().run(Job())
    assert "Health could not be recorded" in caplog.text
