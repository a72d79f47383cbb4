"""Make a log of tens of millions of entries on PostgreSQL, in slices and in constant memory.

    DATABASE_URL=postgresql://… python -m benchmarks.audit.big_table.seed --rows 52428800

Drops everything in the database, unless it has an unfinished log of the same size: then it
continues after the last complete slice. PostgreSQL makes the entries (version 2) and their leaves;
the package's functions compute and sign the seals; ``audit_verify`` accepts all of it. The newest
entries (``--unsealed``) are left to the sealer, and the plain table gets the newest slice only. A
tenth of the entries has an activity id, another tenth a data subject and a purpose.

Stops while the disk still has ``--keep-free`` gigabytes, and completes the log with the entries
that it has.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

from benchmarks.audit.data import (
    AGENT,
    DAYS,
    PLAIN,
    USERS,
    drop_indexes,
    entries_table,
    make_users,
)

PER_SEAL = 8192
SLICE = 128 * PER_SEAL
SUBJECTS = 100_000

ROW_TEXT = """
'{"action":"' || action || '","activity_id":' || coalesce('"' || activity_id || '"', 'null')
|| ',"actor":"' || encode(actor, 'hex') || '","data_subject":"' || data_subject
|| '","details":{"file_size":' || (details ->> 'file_size')
|| ',"filename":"' || (details ->> 'filename') || '"},"ip_address":"' || host(ip_address)
|| '","legal_basis":"' || legal_basis || '","origin":"server","purpose":"' || purpose
|| '","resource_id":"' || resource_id || '","resource_type":"' || resource_type
|| '","timestamp":"' || to_char(timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
|| '","user_agent":"' || user_agent || '","version":2}'
"""

# The nonce's tag is an HMAC; the row's bytes are computed twice, which is cheaper than storing
# them. ``OFFSET 0`` keeps PostgreSQL from computing each column as often as it is used.
SLICE_SQL = f"""
WITH numbers AS (
    SELECT n, abs(hashint8(n) %% 1000) AS pick, 1 + abs(hashint8(n + 7)) %% {USERS} AS user_id,
           date_trunc('milliseconds', %(until)s::timestamptz
               - (%(rows)s - n) * (interval '{DAYS * 24} hours' / %(rows)s)) AS timestamp
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n OFFSET 0),
picked AS (
    SELECT n, user_id, timestamp, (ARRAY['upload_created', 'viewed', 'report_printed',
           'upload_completed', 'login_succeeded', 'user_deleted'])[
           CASE WHEN pick < 450 THEN 1 WHEN pick < 750 THEN 2 WHEN pick < 850 THEN 3
                WHEN pick < 950 THEN 4 WHEN pick < 999 THEN 5 ELSE 6 END] AS action
    FROM numbers OFFSET 0),
facts AS (
    SELECT n AS id, p.user_id, action, timestamp, '{AGENT}'::text AS user_agent,
           CASE WHEN action LIKE 'upload%%' THEN 'upload' ELSE split_part(action, '_', 1) END
               AS resource_type,
           'upload_' || n / 3 AS resource_id,
           ('10.0.' || n %% 250 || '.' || n / 250 %% 250)::inet AS ip_address,
           jsonb_build_object('filename', 'scan_' || n || '.jpg', 'file_size', n %% 4000000)
               AS details,
           CASE WHEN action = 'upload_completed'
                THEN 'uploads:completed:' || md5(n || 'activity')::uuid END AS activity_id,
           CASE WHEN action = 'report_printed' THEN 'patient-'
                || floor({SUBJECTS} * power(abs(hashint8(n + 13)) / 2147483648.0, 2)) ELSE '' END
               AS data_subject,
           CASE WHEN action = 'report_printed' THEN 'treatment' ELSE '' END AS purpose,
           CASE WHEN action = 'report_printed' THEN 'GDPR 9(2)(h)' ELSE '' END AS legal_basis,
           u.actor, u.actor_nonce, decode(md5(n || 'nonce'), 'hex') AS random
    FROM picked p JOIN benchmark_actor u ON u.user_id = p.user_id OFFSET 0),
entries AS (
    INSERT INTO myometrics_audit_auditlog (id, user_id, action, resource_type, resource_id,
        timestamp, ip_address, user_agent, details, pseudonym, activity_id, nonce, origin,
        data_subject, purpose, legal_basis, actor, actor_nonce)
    SELECT id, user_id, action, resource_type, resource_id, timestamp, ip_address, user_agent,
        details, '', activity_id,
        random || substr(sha256(%(outer)s || sha256(%(inner)s || 'nonce/'::bytea || random
            || convert_to({ROW_TEXT}, 'UTF8'))), 1, 16),
        'server', data_subject, purpose, legal_basis, actor, actor_nonce
    FROM facts
    RETURNING id, sha256('\\x00'::bytea || nonce || convert_to({ROW_TEXT}, 'UTF8')) AS hash),
leaves AS (
    INSERT INTO myometrics_audit_leaf (entry_id, hash, key_id, seal_number, version)
    SELECT id, hash, %(key_id)s,
        CASE WHEN id <= %(sealed)s THEN 1 + (id - 1) / {PER_SEAL} END, 2 FROM entries
    RETURNING entry_id, hash, seal_number)
SELECT seal_number, string_agg(int8send(entry_id) || hash, ''::bytea ORDER BY entry_id)
FROM leaves WHERE seal_number IS NOT NULL GROUP BY seal_number ORDER BY seal_number
"""

COUNTS = """
WITH cells AS (
    SELECT (timestamp AT TIME ZONE 'UTC')::date AS day, action, resource_type, user_id,
           count(*) AS n
    FROM myometrics_audit_auditlog WHERE id BETWEEN %(first)s AND least(%(last)s, %(sealed)s)
    GROUP BY 1, 2, 3, 4),
scoped AS (
    SELECT scope, day, sum(n) AS n FROM cells, LATERAL (VALUES
        (''), ('a:' || action), ('t:' || resource_type), ('u:' || user_id),
        ('a:' || action || chr(31) || 't:' || resource_type)) scopes(scope)
    GROUP BY scope, day)
INSERT INTO myometrics_audit_entrycount AS stored (scope, period, start, count)
SELECT scope, 'D', day, n FROM scoped
UNION ALL SELECT scope, 'M', date_trunc('month', day)::date, sum(n) FROM scoped GROUP BY 1, 3
UNION ALL SELECT scope, 'A', DATE '0001-01-01', sum(n) FROM scoped GROUP BY 1
ON CONFLICT (scope, period, start) DO UPDATE SET count = stored.count + excluded.count
"""

SESSION = (
    "SET synchronous_commit = off; SET maintenance_work_mem = '1GB'; SET work_mem = '256MB'; "
    "SET max_parallel_workers_per_gather = 0; SET max_parallel_maintenance_workers = 0; "
    # Foreign keys are not checked row by row: the users are those of make_users.
    "SET jit = off; SET session_replication_role = replica"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=50 * SLICE)
    parser.add_argument(
        "--unsealed", type=int, default=SLICE, help=f"newest entries without a seal ({SLICE:,})"
    )
    parser.add_argument(
        "--keep-free", type=int, default=12, metavar="GB", help="stop before less is free (12)"
    )
    parser.add_argument(
        "--slice", type=int, default=SLICE, help=f"entries a transaction, by {PER_SEAL} ({SLICE:,})"
    )
    options = parser.parse_args()
    if options.slice % PER_SEAL:
        parser.error(f"--slice must be a multiple of {PER_SEAL}.")
    django.setup()
    seed(options.rows, options.slice, unsealed=options.unsealed, keep_free=options.keep_free)


def seed(rows: int, slice_rows: int, *, unsealed: int, keep_free: int) -> None:
    """Make the log, or continue with an unfinished one of the same size."""
    from django.db import connection

    from myometrics_core.management.command_line import Progress

    started = time.monotonic()
    if unfinished_rows() != rows:
        prepare(rows, max(rows - unsealed, 0) // PER_SEAL * PER_SEAL)
    bar = Progress(sys.stderr, rows, "rows")
    with connection.cursor() as cursor:
        cursor.execute(SESSION)
        cursor.execute("SHOW data_directory")
        folder = cursor.fetchone()[0]
        for done in insert_slices(cursor, slice_rows):
            bar.update(done)
            print(f"{done:,} rows after {time.monotonic() - started:.0f} s", flush=True)
            if shutil.disk_usage(folder).free < keep_free * 10**9:
                print(f"Stopped: less than {keep_free} GB are free.", flush=True)
                break
        bar.finish()
        complete(cursor)
    print(f"complete after {time.monotonic() - started:.0f} s", flush=True)


def unfinished_rows() -> int | None:
    """Return the size of an unfinished log, ``None`` if there is none."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('benchmark_seed')")
        if cursor.fetchone()[0] is None:
            return None
        cursor.execute("SELECT rows FROM benchmark_seed WHERE NOT is_complete")
        row = cursor.fetchone()
    return row[0] if row else None


def prepare(rows: int, sealed: int) -> None:
    """Empty the database; create the tables without indexes, and the users."""
    from django.core.management import call_command
    from django.db import connection, transaction

    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    call_command("migrate", verbosity=0)
    with transaction.atomic(), connection.cursor() as cursor:
        make_users(cursor)
        cursor.execute("UPDATE auth_user SET is_superuser = true WHERE id = 1")
        make_actors(cursor)
        cursor.execute(
            "CREATE TABLE benchmark_seed (rows bigint, sealed bigint, until timestamptz, "
            "done bigint DEFAULT 0, indexes text[], is_complete boolean DEFAULT false)"
        )
        cursor.execute(
            "INSERT INTO benchmark_seed (rows, sealed, until, indexes) VALUES (%s, %s, now(), %s)",
            [rows, sealed, drop_indexes(cursor)],
        )


def make_actors(cursor: Any) -> None:
    """Store each user's commitment and its nonce, for the join in ``SLICE_SQL``."""
    from myometrics_audit.signing.keys import active_key
    from myometrics_audit.signing.signatures import actor_commitment, actor_nonce

    key = active_key()
    cursor.execute(
        "CREATE TABLE benchmark_actor (user_id integer PRIMARY KEY, actor bytea, actor_nonce bytea)"
    )
    for user_id in range(1, USERS + 1):
        nonce = actor_nonce(user_id, key)
        cursor.execute(
            "INSERT INTO benchmark_actor VALUES (%s, %s, %s)",
            [user_id, actor_commitment(user_id, nonce), nonce],
        )
    cursor.execute("ANALYZE benchmark_actor")


def insert_slices(cursor: Any, slice_rows: int) -> Iterator[int]:
    """Insert the missing slices, each in a transaction; yield the number of entries so far."""
    from django.db import transaction

    cursor.execute("SELECT rows, sealed, until, done FROM benchmark_seed")
    rows, sealed, until, done = cursor.fetchone()
    values = {**key_values(), "rows": rows, "sealed": sealed, "until": until}
    while done < rows:
        last = min(done + slice_rows, rows)
        values |= {"first": done + 1, "last": last}
        with transaction.atomic():
            cursor.execute(SLICE_SQL, values)
            write_seals(cursor.fetchall(), until, rows)
            if done < sealed:
                cursor.execute(COUNTS, values)
            cursor.execute("UPDATE benchmark_seed SET done = %s", [last])
        done = last
        # While the pages are in memory: a VACUUM at the end would read and write all of them.
        cursor.execute(
            "VACUUM (FREEZE, INDEX_CLEANUP off, TRUNCATE off) "
            "myometrics_audit_auditlog, myometrics_audit_leaf"
        )
        yield done


def key_values() -> dict[str, Any]:
    """Return the padded keys of the nonces' HMAC, and the key's id."""
    from myometrics_audit.signing.keys import active_key

    key = active_key()
    block = key.entry.ljust(64, b"\0")
    return {
        "inner": bytes(byte ^ 0x36 for byte in block),
        "outer": bytes(byte ^ 0x5C for byte in block),
        "key_id": key.id,
    }


def write_seals(batches: list[tuple[int, bytes]], until: datetime, rows: int) -> None:
    """Sign and insert the seals of complete batches, as the sealer does.

    Each batch is the seal's number and the data of its leaves. They are sealed a minute after
    their newest entry, and need no anchor.
    """
    from myometrics_audit.models import Seal
    from myometrics_audit.signing.keys import active_key
    from myometrics_audit.signing.merkle import tree_levels
    from myometrics_audit.signing.signatures import GENESIS, seal_signature
    from myometrics_core.times import whole_milliseconds

    key, last = active_key(), Seal.objects.order_by("-number").first()
    previous = bytes(last.signature) if last else GENESIS
    seals = []
    for number, joined in batches:
        leaves = bytes(joined)
        data = [leaves[at : at + 40] for at in range(0, len(leaves), 40)]
        age = timedelta(days=DAYS) * (1 - number * PER_SEAL / rows)
        moment = whole_milliseconds(until - age + timedelta(minutes=1))
        seal = Seal(
            number=number,
            root=tree_levels(data)[-1][0],
            entries=len(data),
            erasures=0,
            sealed_at=moment,
            previous=previous,
            key_id=key.id,
            anchored_at=moment,
        )
        seal.signature = previous = seal_signature(seal, key)
        seals.append(seal)
    Seal.objects.bulk_create(seals)


def complete(cursor: Any) -> None:
    """Fill the plain table; create the missing indexes, set the sequences, update statistics."""
    cursor.execute("SELECT indexes, done FROM benchmark_seed")
    indexes, done = cursor.fetchone()
    copy_to_plain_table(cursor, done)
    for sql in indexes:
        started = time.monotonic()
        cursor.execute(sql.replace("INDEX ", "INDEX IF NOT EXISTS ", 1))
        print(f"{time.monotonic() - started:4.0f} s: {sql}", flush=True)
    cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), %s)", [entries_table(), done])
    cursor.execute("VACUUM (ANALYZE)")
    cursor.execute("UPDATE benchmark_seed SET is_complete = true")


def copy_to_plain_table(cursor: Any, done: int) -> None:
    """Copy the newest slice to the table that the straightforward way writes to."""
    cursor.execute("TRUNCATE site_plainlog RESTART IDENTITY")
    cursor.execute(
        f"INSERT INTO site_plainlog ({PLAIN}) SELECT {PLAIN} FROM {entries_table()} WHERE id > %s",
        [done - SLICE],
    )
    cursor.execute("SELECT setval(pg_get_serial_sequence('site_plainlog', 'id'), %s)", [done])


if __name__ == "__main__":
    main()
