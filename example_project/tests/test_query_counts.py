"""The number of queries of each endpoint, so that an increase is noticed.

Counts statements that read or write data, with all packages, without rate limits
(on Redis they need none). Lower a number when it falls; explain an increase.
"""

from __future__ import annotations

import pytest
from conftest import PASSWORD
from django.db import connection
from django.test.utils import CaptureQueriesContext

TRANSACTIONS = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK", "BEGIN", "COMMIT")
UPLOAD = {"action": "upload_completed", "resource_type": "upload", "details": {"file_size": 1}}
VIEW = {"action": "view", "resource_type": "patient", "resource_id": "1"}

READS = {
    "/api/auth/user/": 1,
    "/api/auth/sessions/": 3,
    "/api/users/": 3,
    "/api/users/{id}/": 2,
    "/api/users/me/activity/": 2,
    "/api/users/{id}/activity/": 3,
    "/api/users/me/notifications/": 2,
    "/api/audit-logs/": 2,
    "/api/audit-logs/?action=view": 2,
    "/api/audit-logs/?page=2&page_size=5": 2,
    "/api/analytics/": 2,
    "/api/analytics/?days=365": 2,
    "/api/health/": 1,
}


@pytest.fixture(autouse=True)
def _without_limits(settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMIT_STORAGE": "memory://"}


def asked(act):
    """The statements of ``act``."""
    with CaptureQueriesContext(connection) as captured:
        answer = act()
    assert answer.status_code < 300, answer.content
    return [query["sql"] for query in captured if not query["sql"].startswith(TRANSACTIONS)]


def write(client, entry):
    return client.post("/api/audit-logs/", entry, format="json")


@pytest.fixture
def filled(as_administrator):
    for number in range(12):
        write(as_administrator, {**UPLOAD, "resource_id": f"upload_{number}"})
        write(as_administrator, VIEW)
    return as_administrator


@pytest.mark.django_db
@pytest.mark.parametrize("path", READS)
def test_reads_stay_within_query_limit(filled, administrator, path):
    address = path.format(id=administrator.pk)
    filled.get(address)
    statements = asked(lambda: filled.get(address))
    assert len(statements) <= READS[path], "\n".join(statements)


@pytest.mark.django_db
def test_more_rows_need_no_more_queries(filled):
    paths = ["/api/audit-logs/", "/api/users/me/activity/", "/api/analytics/", "/api/users/"]
    before = [len(asked(lambda path=path: filled.get(path))) for path in paths]
    for number in range(12, 24):
        write(filled, {**UPLOAD, "resource_id": f"upload_{number}"})
    assert [len(asked(lambda path=path: filled.get(path))) for path in paths] == before


WRITES = {
    "sign in": 11,  # one for the known device
    "refresh": 2,
    "change the profile": 2,
    "change a notification": 4,
    "write an audit entry": 3,
    "write an upload": 14,  # three for the daily limit on clients' reports, one for the mail's job
}


@pytest.mark.django_db
@pytest.mark.parametrize("what", WRITES)
def test_writes_stay_within_query_limit(filled, anonymous_client, administrator, what):
    sign_in = {"email": administrator.email, "password": PASSWORD}
    refresh = {"refresh": filled.tokens["refresh"]}
    acts = {
        "sign in": lambda: anonymous_client.post("/api/auth/login/", sign_in, format="json"),
        "refresh": lambda: anonymous_client.post(
            "/api/auth/token/refresh/", refresh, format="json"
        ),
        "change the profile": lambda: filled.patch(
            "/api/auth/user/", {"firstName": "Ada"}, format="json"
        ),
        "change a notification": lambda: filled.patch(
            "/api/users/me/notifications/", {"system_alerts": True}, format="json"
        ),
        "write an audit entry": lambda: write(filled, VIEW),
        "write an upload": lambda: write(filled, {**UPLOAD, "resource_id": "another"}),
    }
    statements = asked(acts[what])
    assert len(statements) <= WRITES[what], "\n".join(statements)
