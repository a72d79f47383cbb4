import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_core import accesses
from myometrics_core.accesses import register_access_observer
from myometrics_core.throttling import rate_limiter
from myometrics_testing.waiting import PATIENCE, wait_for


@pytest.fixture
def person(db):
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
def signed_in(client, person):
    client.force_authenticate(person)
    return client


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests():
    yield
    rate_limiter._limiters.clear()
    rate_limiter._local_until = 0.0
    rate_limiter._local.storage.reset()


@pytest.fixture(autouse=True)
def _accesses_are_written_nowhere():
    """Unless a test asks for it, no thread writes into tables that other tests count."""
    observer = accesses._observers.pop("access_table")
    yield
    register_access_observer("access_table", observer)


@pytest.fixture
def access_table(settings):
    """Sets keys of ``MYOMETRICS``, and has the access log tell the table."""
    from myometrics_core.access_table.writer import access_writer

    def set_keys(**keys):
        settings.MYOMETRICS = {f"ACCESS_TABLE_{key}": value for key, value in keys.items()}

    set_keys(WRITES="on_flush")
    access_writer.forget()
    register_access_observer("access_table", access_writer)
    yield set_keys
    access_writer.close()
    access_writer.forget()


@pytest.fixture
def celery_worker_here():
    """A real worker in a thread; call it with a condition to wait until that is true."""
    from celery import current_app
    from celery.contrib.testing.worker import start_worker

    with start_worker(
        current_app, pool="solo", perform_ping_check=False, shutdown_timeout=PATIENCE
    ):
        yield wait_for
