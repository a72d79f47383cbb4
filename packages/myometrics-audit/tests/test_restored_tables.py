"""A table restored to an older state, with the others unchanged, is detected."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connection

from myometrics_audit.log.guards import remove_guards
from myometrics_audit.models import AuditLog, Erasure, Leaf, Seal
from myometrics_audit.sealing import LogVerifier, seal_pending
from myometrics_audit.sealing.erasures import entries_purge_chunk

pytestmark = pytest.mark.django_db

LONG_AGO = datetime(2020, 1, 1, tzinfo=timezone.utc)
Rows = list[tuple[Any, ...]]


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def entry_version(request):
    """Every test runs with entries of both versions."""
    return request.param


def columns(model):
    return ", ".join(f'"{field.column}"' for field in model._meta.concrete_fields)


def rows(model):
    """The rows of the table."""
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT {columns(model)} FROM "{model._meta.db_table}"')
        return list(cursor.fetchall())


def put_back(model, old):
    """Restore the rows ``old`` of the table."""
    copy = f"old_{model._meta.db_table}"
    with connection.cursor() as cursor:
        cursor.execute(f'DELETE FROM "{model._meta.db_table}"')
        cursor.execute(
            f'INSERT INTO "{model._meta.db_table}" ({columns(model)}) '
            f'SELECT {columns(model)} FROM "{copy}"'
        )
    assert sorted(map(repr, rows(model))) == sorted(map(repr, old))


def keep(model):
    """Copy the table; return its rows."""
    with connection.cursor() as cursor:
        cursor.execute(
            f'CREATE TEMPORARY TABLE "old_{model._meta.db_table}" AS '
            f'SELECT {columns(model)} FROM "{model._meta.db_table}"'
        )
    return rows(model)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (AuditLog, {("entry_deleted", "late"), ("entry_restored", "purged")}),
        (Leaf, {("entry_forged", "late"), ("entry_deleted", "purged"), ("seal_broken", "seal 2")}),
        (Seal, {("seal_missing", "seal 2")}),
        (Erasure, {("erasure_missing", "purge"), ("seal_broken", "seal 2")}),
    ],
    ids=["row", "leaf", "seal", "erasure"],
)
def test_table_restored_to_an_older_state_is_detected(write, model, expected):
    purged, _ = write(user=None, timestamp=LONG_AGO), write(resource_id="stays")
    list(seal_pending())
    remove_guards(connection.alias)
    old = keep(model)
    entries_purge_chunk(before=LONG_AGO + timedelta(days=1), limit=10, using="default")
    late = write(resource_id="late")
    list(seal_pending())
    assert list(LogVerifier().problems()) == []
    names = {
        "late": f"entry {late.pk}",
        "purged": f"entry {purged.pk}",
        "purge": f"erasure {Erasure.objects.get().pk}",
    }
    put_back(model, old)
    found = {(problem.kind, problem.subject) for problem in LogVerifier().problems()}
    assert found >= {(kind, names.get(subject, subject)) for kind, subject in expected}
