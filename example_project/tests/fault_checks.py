"""Checks after a fault: the responses to clients, and the content of the database."""

from __future__ import annotations

import psycopg

ERROR_SHAPE = {"detail", "code", "field_errors"}


def assert_clean(refused):
    """Assert that every error response has the API's shape."""
    for answer in refused:
        assert answer.headers["Content-Type"].startswith("application/json"), answer.text
        assert set(answer.json()) == ERROR_SHAPE


def entries(postgresql):
    """The ids of all audit entries; entries and leaves must match one to one."""
    with psycopg.connect(postgresql.url) as connection:
        # Both of one moment: other processes may write an entry between the two.
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        rows = connection.execute("SELECT id FROM myometrics_audit_auditlog").fetchall()
        leaves = connection.execute("SELECT entry_id FROM myometrics_audit_leaf").fetchall()
    assert sorted(rows) == sorted(leaves)
    return {pk for (pk,) in rows}


def count(postgresql, query):
    """The first value of the first row that ``query`` finds."""
    with psycopg.connect(postgresql.url) as connection:
        row = connection.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]
