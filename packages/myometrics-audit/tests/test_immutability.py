"""Entries can't be changed: by the ORM, SQL or the admin."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from myometrics_audit.log import ImmutableEntry
from myometrics_audit.log.guards import missing_guards
from myometrics_audit.models import AuditLog, Erasure, Leaf, Seal
from myometrics_audit.sealing import seal_pending

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    "attempt",
    [
        lambda e: e.save(),
        lambda e: e.save(update_fields=["action"]),
        lambda e: e.delete(),
        lambda e: AuditLog.objects.update(action="x"),
        lambda e: AuditLog.objects.filter(pk=e.pk).delete(),
        lambda e: AuditLog.objects.bulk_update([e], ["action"]),
        lambda e: AuditLog.objects.update_or_create(pk=e.pk, defaults={"action": "x"}),
        lambda e: AuditLog.objects.bulk_create([e], ignore_conflicts=True),
        lambda e: AuditLog.objects.bulk_create(
            [e], update_conflicts=True, update_fields=["action"], unique_fields=["id"]
        ),
    ],
)
def test_orm_refuses_changes_of_entries_with_an_alternative(write, attempt):
    entry = write()
    with pytest.raises(ImmutableEntry, match=r"can't be changed.*; (record|insert|delete|run)"):
        attempt(entry)
    assert AuditLog.objects.values_list("action", flat=True).get() == "upload_created"


STATEMENTS = [
    "UPDATE {log} SET action = 'x'",
    "UPDATE {log} SET origin = 'client'",
    "UPDATE {log} SET origin = NULL",
    "UPDATE {log} SET user_id = NULL",
    "UPDATE {log} SET user_id = NULL, pseudonym = 'made up'",
    *(
        f"UPDATE {{log}} SET {column} = 'x'"
        for column in ("data_subject", "purpose", "legal_basis", "actor", "actor_nonce")
    ),
    "UPDATE {log} SET actor = NULL",
    "UPDATE {log} SET actor_nonce = NULL",
    "DELETE FROM {log}",
    "UPDATE {leaf} SET hash = nonce FROM {log}",
    "UPDATE {leaf} SET key_id = 'x'",
    "UPDATE {leaf} SET version = 1",
    "UPDATE {leaf} SET version = NULL",
    "UPDATE {leaf} SET seal_number = seal_number + 1",
    "UPDATE {leaf} SET seal_number = NULL",
    "DELETE FROM {leaf}",
    "UPDATE {seal} SET entries = 7",
    "UPDATE {seal} SET previous = root",
    "DELETE FROM {seal}",
    "UPDATE {erasure} SET entries = 7",
    "UPDATE {erasure} SET seal_number = NULL",
    "DELETE FROM {erasure}",
]


def tables():
    models = {"log": AuditLog, "leaf": Leaf, "seal": Seal, "erasure": Erasure}
    return {name: model._meta.db_table for name, model in models.items()}


@pytest.fixture
def evidence(write, django_user_model):
    """An entry, an erasure and a seal over both."""
    write()
    other = django_user_model.objects.create_user(email="other@clinic.example")
    write(user=other)
    other.delete()
    list(seal_pending())


@pytest.mark.parametrize("statement", STATEMENTS)
def test_database_refuses_changes_of_evidence(evidence, statement):
    with (
        pytest.raises(DatabaseError, match="is refused"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(**tables()))


SHORT_CUTS = {"postgresql": "TRUNCATE {%s}", "sqlite": "REPLACE INTO {%s} SELECT * FROM {%s}"}


@pytest.mark.parametrize("table", ["log", "leaf", "seal", "erasure"])
def test_replace_and_truncate_are_refused(evidence, table):
    connection.check_constraints()
    statement = SHORT_CUTS[connection.vendor].replace("%s", table)
    with (
        pytest.raises(DatabaseError, match="is refused"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement.format(**tables()))


def test_guards_exist_after_migrate():
    assert missing_guards("default") == []


def test_admin_refuses_changes_of_entries(write, client, django_user_model):
    root = django_user_model.objects.create_superuser(email="root@clinic.example")
    client.force_login(root)
    entry = write()
    base = "/admin/myometrics_audit/auditlog/"
    assert client.get(base).status_code == 200
    assert client.get(f"{base}{entry.pk}/change/").status_code == 200
    assert client.get(f"{base}add/").status_code == 403
    assert client.post(f"{base}add/", {"action": "x"}).status_code == 403
    assert client.post(f"{base}{entry.pk}/change/", {"action": "x"}).status_code == 403
    assert client.post(f"{base}{entry.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(base, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"})
    assert AuditLog.objects.values_list("action", flat=True).get() == "upload_created"
