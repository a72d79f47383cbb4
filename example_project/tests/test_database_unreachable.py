"""A database that can't be reached fails a request at once, and few attempts are made for it."""

from __future__ import annotations

import pytest
from django.db import OperationalError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from unreachable import REFUSED, attempt, is_refused

from config.databases import CONNECT_SECONDS, POOL_SECONDS
from myometrics_testing.waiting import wait_for

UPLOAD = {"action": "upload_created", "resource_type": "upload", "resource_id": "1"}


@pytest.mark.any_database
def test_wrong_password_fails_at_once(connect, wrong_password):
    wait_for(lambda: is_refused(wrong_password))
    assert "password authentication failed" in attempt(connect(wrong_password))


@pytest.mark.any_database
def test_refused_port_fails_at_once(connect):
    assert "refused" in attempt(connect(REFUSED))


@pytest.mark.any_database
def test_unresponsive_server_fails_after_timeout(connect, postgresql_server):
    handler = connect(postgresql_server.url)
    postgresql_server.freeze()
    try:
        assert "timeout expired" in attempt(handler)
    finally:
        postgresql_server.thaw()


def test_timeouts_match_documentation():
    assert (POOL_SECONDS, CONNECT_SECONDS) == (0.5, 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "path", "body", "attempts"),
    [
        ("get", "auth/user/", None, 1),
        ("get", "analytics/", None, 1),
        ("get", "users/me/export/?format=json", None, 1),
        ("post", "audit-logs/", UPLOAD, 1),
        # One more if rate limits are counted in the database.
        ("post", "auth/login/", {"email": "ada@clinic.example", "password": "wrong"}, 2),
        ("post", "auth/password-reset/", {"email": "ada@clinic.example"}, 2),
    ],
)
def test_request_makes_few_connection_attempts(
    as_doctor, monkeypatch, method, path, body, attempts
):
    made = []

    def fail(self):
        made.append(self.alias)
        raise OperationalError("refused")

    connection.close()
    monkeypatch.setattr(BaseDatabaseWrapper, "connect", fail)
    as_doctor.raise_request_exception = False
    answer = getattr(as_doctor, method)(f"/api/{path}", body, format="json")
    assert answer.status_code == 500
    assert set(answer.json()) == {"detail", "code", "field_errors"}
    assert 1 <= len(made) <= attempts
