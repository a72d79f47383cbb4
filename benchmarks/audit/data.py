"""Make a log of any size on PostgreSQL: entries with real evidence, and the plain table.

    DATABASE_URL=postgresql://… python -m benchmarks.audit.data --rows 1000000 [--seal sql|none]

Drops everything in the database. The rows span the last 1,000 days and have 1,000 users; one action
has 10 % of them and one 0.1 %. PostgreSQL itself makes rows and leaves without indexes, and
``audit_verify`` accepts them; the package seals them. ``--seal sql`` writes what queries need of
the seals (seal numbers, stored counts) by SQL: much faster, but it can't be verified.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

DAYS = 1000
USERS = 1000
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"
PLAIN = (
    "id, user_id, action, resource_type, resource_id, timestamp, ip_address, user_agent, details"
)

ENTRIES = f"""
INSERT INTO myometrics_audit_auditlog ({PLAIN}, pseudonym, nonce)
SELECT n, 1 + abs(hashint8(n + 7)) %% {USERS}, action,
       CASE WHEN action LIKE 'upload%%' THEN 'upload' ELSE split_part(action, '_', 1) END,
       'upload_' || n / 3,
       now() - (%(rows)s - n) * (interval '{DAYS * 24} hours' / %(rows)s),
       ('10.0.' || n %% 250 || '.' || n / 250 %% 250)::inet, '{AGENT}',
       jsonb_build_object('filename', 'scan_' || n || '.jpg', 'file_size', n %% 4000000),
       '', decode(md5(n || 'nonce'), 'hex')
FROM (SELECT n, (ARRAY['upload_created', 'viewed', 'report_printed', 'upload_completed',
                       'login_succeeded', 'user_deleted'])[
          CASE WHEN pick < 450 THEN 1 WHEN pick < 750 THEN 2 WHEN pick < 850 THEN 3
               WHEN pick < 950 THEN 4 WHEN pick < 999 THEN 5 ELSE 6 END] AS action
      FROM (SELECT n, abs(hashint8(n) %% 1000) AS pick
            FROM generate_series(1, %(rows)s) n) numbers) picked
"""

LEAVES = """
INSERT INTO myometrics_audit_leaf (entry_id, seal_number, hash, key_id)
SELECT id, 1 + id / %(per_seal)s::bigint,
    sha256(%(outer)s || sha256(%(inner)s || nonce || convert_to(
    '{"action":"' || action || '","activity_id":null,"details":{"file_size":'
    || (details ->> 'file_size') || ',"filename":"' || (details ->> 'filename')
    || '"},"ip_address":"' || host(ip_address)
    || '","resource_id":"' || resource_id || '","resource_type":"' || resource_type
    || '","subject":"' || (%(subjects)s::text[])[user_id] || '","timestamp":"'
    || to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    || '","user_agent":"' || user_agent || '"}', 'UTF8'))), %(key_id)s
FROM myometrics_audit_auditlog
"""

COUNTS = """
WITH cells AS (
    SELECT (timestamp AT TIME ZONE 'UTC')::date AS day, action, resource_type, user_id,
           count(*) AS n
    FROM myometrics_audit_auditlog GROUP BY 1, 2, 3, 4),
scoped AS (
    SELECT scope, day, sum(n) AS n FROM cells, LATERAL (VALUES
        (''), ('a:' || action), ('t:' || resource_type), ('u:' || user_id),
        ('a:' || action || chr(31) || 't:' || resource_type)) scopes(scope)
    GROUP BY scope, day)
INSERT INTO myometrics_audit_entrycount (scope, period, start, count)
SELECT scope, 'D', day, n FROM scoped
UNION ALL SELECT scope, 'M', date_trunc('month', day)::date, sum(n) FROM scoped GROUP BY 1, 3
UNION ALL SELECT scope, 'A', DATE '0001-01-01', sum(n) FROM scoped GROUP BY 1
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--seal", choices=["package", "sql", "none"], default="package")
    options = parser.parse_args()
    django.setup()
    make(options.rows, sealed=options.seal == "sql")
    if options.seal == "package":
        seal()


def make(rows: int, *, sealed: bool) -> None:
    """Replace the database's content with a log of ``rows`` entries."""
    from django.core.management import call_command
    from django.db import connection

    started = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SET maintenance_work_mem = '1GB'; SET synchronous_commit = off")
        make_users(cursor)
        indexes = drop_indexes(cursor)
        cursor.execute(ENTRIES, {"rows": rows})
        cursor.execute(LEAVES, {**evidence_values(), "per_seal": 8192 if sealed else None})
        if sealed:
            cursor.execute(COUNTS)
        cursor.execute(f"INSERT INTO site_plainlog ({PLAIN}) SELECT {PLAIN} FROM {entries_table()}")
        for sql in indexes:
            cursor.execute(sql)
        for table in (entries_table(), "site_plainlog"):
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [table, rows])
        cursor.execute("VACUUM ANALYZE")
    print(f"{rows:,} rows in {time.monotonic() - started:.0f} s", flush=True)


def seal() -> None:
    """Seal everything, and print the duration."""
    from django.db import connection

    from myometrics_audit.sealing import seal_pending

    started, progress = time.monotonic(), None
    cpu = time.process_time()
    for progress in seal_pending():  # noqa: B007
        pass
    leaves = progress.leaves if progress else 0
    cpu = time.process_time() - cpu
    print(f"{leaves:,} sealed in {time.monotonic() - started:.0f} s (Python {cpu:.0f} s of CPU)")
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")


def entries_table() -> str:
    from myometrics_audit.models import AuditLog

    return AuditLog._meta.db_table


def make_users(cursor: Any) -> None:
    cursor.execute(
        "INSERT INTO auth_user (id, username, password, is_active, is_staff, is_superuser, "
        "first_name, last_name, email, date_joined) SELECT n, 'user' || n, '', true, n = 1, "
        "false, '', '', '', now() FROM generate_series(1, %s) n",
        [USERS],
    )


def drop_indexes(cursor: Any) -> list[str]:
    """Drop every index without a constraint; return the SQL that creates them again."""
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename IN "
        "('myometrics_audit_auditlog', 'myometrics_audit_leaf', 'site_plainlog') "
        "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f'DROP INDEX "{name}"')
    return [sql for _, sql in found]


def evidence_values() -> dict[str, Any]:
    """Return the inputs of the leaves: HMAC's padded keys, and each user's subject."""
    from myometrics_audit.signing.keys import active_key
    from myometrics_audit.signing.signatures import subject_of

    key = active_key()
    block = key.entry.ljust(64, b"\0")
    return {
        "inner": bytes(byte ^ 0x36 for byte in block),
        "outer": bytes(byte ^ 0x5C for byte in block),
        "subjects": [subject_of(user_id, key) for user_id in range(1, USERS + 1)],
        "key_id": key.id,
    }


if __name__ == "__main__":
    main()
