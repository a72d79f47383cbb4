"""Guards are restored by ``migrate``, and tests can disable them."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import DatabaseError, connection

from myometrics_audit.checks import check_guards
from myometrics_audit.log.guards import missing_guards, remove_guards
from myometrics_audit.models import AuditLog, Leaf

OUTDATED = {
    "sqlite": [
        "CREATE TRIGGER myometrics_audit_guard_auditlog_update BEFORE UPDATE ON {table} "
        "FOR EACH ROW WHEN NEW.action IS NOT OLD.action "
        "BEGIN SELECT RAISE(ABORT, 'is refused'); END"
    ],
    "postgresql": [
        "CREATE OR REPLACE FUNCTION myometrics_audit_guard_auditlog() RETURNS trigger "
        "LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
        "CREATE TRIGGER myometrics_audit_guard_auditlog_row BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION myometrics_audit_guard_auditlog()",
    ],
}

pytestmark = pytest.mark.django_db(transaction=True)


def test_migrate_restores_guards_of_a_rebuilt_table():
    if connection.vendor == "sqlite":
        with connection.schema_editor() as editor:
            editor._remake_table(AuditLog)
    else:
        remove_guards("default")
    assert missing_guards("default") != []
    call_command("migrate", verbosity=0)
    assert missing_guards("default") == []


def test_migrate_replaces_an_outdated_guard(write):
    write()
    remove_guards("default")
    table = AuditLog._meta.db_table
    with connection.cursor() as cursor:
        for statement in OUTDATED[connection.vendor]:
            cursor.execute(statement.format(table=table))
        assert [name for name in missing_guards("default") if name.endswith(("row", "update"))]
        call_command("migrate", verbosity=0)
        assert missing_guards("default") == []
        with pytest.raises(DatabaseError, match="is refused"):
            cursor.execute(f'UPDATE "{table}" SET origin = NULL')


def test_guards_fit_the_table_of_an_earlier_migration(write):
    try:
        call_command("migrate", "myometrics_audit", "0002", verbosity=0)
        assert missing_guards("default") == []
        with connection.cursor() as cursor, pytest.raises(DatabaseError, match="is refused"):
            cursor.execute(
                f'INSERT INTO "{AuditLog._meta.db_table}" (action, resource_type, resource_id, '
                "timestamp, user_agent, details, pseudonym, nonce) VALUES "
                "('a', 'b', 'c', '2025-08-19 15:45:00+00', '', '{}', '', '')"
            )
            cursor.execute(f"UPDATE \"{AuditLog._meta.db_table}\" SET action = 'x'")
    finally:
        call_command("migrate", verbosity=0)  # also the apps that depend on it
    assert missing_guards("default") == []


@pytest.mark.parametrize("state", ["DISABLE", "ENABLE REPLICA"])
def test_migrate_replaces_a_guard_that_does_not_fire(write, state):
    if connection.vendor == "sqlite":
        return  # SQLite can drop a trigger, not disable it
    write()
    table = AuditLog._meta.db_table
    guards = [f"myometrics_audit_guard_auditlog_{name}" for name in ("row", "truncate")]
    with connection.cursor() as cursor:
        for guard in guards:
            cursor.execute(f'ALTER TABLE "{table}" {state} TRIGGER {guard}')
        missing = missing_guards("default")
        assert sorted(name for name in missing if " of " not in name) == guards
        call_command("migrate", verbosity=0)
        assert missing_guards("default") == []
        with pytest.raises(DatabaseError, match="is refused"):
            cursor.execute(f'UPDATE "{table}" SET origin = NULL')


def test_each_schema_has_its_own_guards():
    if connection.vendor == "sqlite":
        return  # one schema
    names = ("first", "second")
    with connection.cursor() as cursor:
        cursor.execute('CREATE SCHEMA "first"; CREATE SCHEMA "second"')
        try:
            for name in names:
                cursor.execute(f'SET search_path = "{name}"')
                call_command("migrate", verbosity=0)
                assert len(guards_in(name)) == 8
            AuditLog.objects.create(action="a", resource_type="b", resource_id="c")
            with pytest.raises(DatabaseError, match="is refused"):
                AuditLog.objects.all()._raw_delete("default")
            remove_guards("default")
            assert len(guards_in("first")) == 8
            assert len(missing_guards("default")) == 8
            assert [message.id for message in check_guards(["default"])] == [
                "myometrics_audit.W011"
            ]
            cursor.execute('SET search_path = "first"')
            assert list(check_guards(["default"])) == []
        finally:
            cursor.execute("RESET search_path")
            cursor.execute('DROP SCHEMA "first" CASCADE; DROP SCHEMA "second" CASCADE')


def guards_in(schema):
    """The triggers on the tables of a schema."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid "
            "WHERE NOT t.tgisinternal AND c.relnamespace = to_regnamespace(%s)",
            [schema],
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.parametrize("allowed", [True, False])
def test_flush_requires_the_setting_allow_flush(write, settings, allowed):
    write()
    settings.MYOMETRICS_AUDIT = {"ALLOW_FLUSH": allowed}
    fresh = connection.copy()
    try:
        fresh.ensure_connection()
        tables = [Leaf._meta.db_table, AuditLog._meta.db_table]
        flush = fresh.ops.sql_flush(no_style(), tables, allow_cascade=True)
        if allowed:
            fresh.ops.execute_sql_flush(flush)
        else:
            with pytest.raises(DatabaseError, match=r'is refused.*\["ALLOW_FLUSH"\] = True'):
                fresh.ops.execute_sql_flush(flush)
    finally:
        fresh.close()
    assert AuditLog.objects.exists() is not allowed
    assert missing_guards("default") == []
