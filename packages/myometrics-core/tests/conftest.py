import pytest
from django.contrib.auth import get_user_model
from job_kinds import Note
from rest_framework.test import APIClient

from myometrics_core.api import rate_limiter
from myometrics_core.jobs import kinds, register_job_kind, runners, running
from myometrics_testing.waiting import PATIENCE, wait_for


@pytest.fixture
def user(db):
    return get_user_model().objects.create_user(email="ada@clinic.example", password="x")


@pytest.fixture
def administrator(db):
    return get_user_model().objects.create_user(
        email="admin@clinic.example", password="x", is_staff=True
    )


@pytest.fixture
def client():
    return APIClient()


@pytest.fixture
def signed_in(client, user):
    client.force_authenticate(user)
    return client


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests():
    yield
    rate_limiter._limiters.clear()
    rate_limiter._local_until = 0.0
    rate_limiter._local.storage.reset()


@pytest.fixture
def kind(monkeypatch):
    """The only registered kind of job."""
    monkeypatch.setattr(kinds, "_kinds", {})
    monkeypatch.setattr(running, "_paused_until", {})
    monkeypatch.setattr(runners, "_paused_until", {})
    kind = Note()
    register_job_kind(kind)
    return kind


@pytest.fixture
def celery_worker_here():
    """A real worker in a thread; call it with a condition to wait for."""
    from celery import current_app
    from celery.contrib.testing.worker import start_worker

    with start_worker(
        current_app, pool="solo", perform_ping_check=False, shutdown_timeout=PATIENCE
    ):
        yield wait_for
