"""Make a log of any size on PostgreSQL: entries with real evidence, and the plain table.

    DATABASE_URL=postgresql://… python -m benchmarks.audit.data --rows 1000000

Drops what an earlier run made. Rows are written by COPY with the indexes off, so 10 million take
minutes. The rows span 1,000 days up to now; 1,000 users; one action makes 10 % and one 0.1 %.
"""

import argparse
import hashlib
import hmac
import itertools
import json
import os
import random
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.audit.site.settings")

import django

PLAIN = (
    "id, user_id, action, resource_type, resource_id, timestamp, ip_address, user_agent, details"
)
DAYS = 1000
USERS = 1000
CHUNK = 20_000
ACTIONS = [("upload_created", 450), ("viewed", 300), ("report_printed", 100)]
ACTIONS += [("upload_completed", 100), ("login_succeeded", 49), ("user_deleted", 1)]
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    django.setup()
    make(rows)


def make(rows: int) -> None:
    """Replace the database's content by a log of ``rows`` entries, unsealed."""
    from django.core.management import call_command
    from django.db import connection

    started = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO auth_user (id, username, password, is_active, is_staff, is_superuser, "
            "first_name, last_name, email, date_joined) SELECT n, 'user' || n, '', true, n = 1, "
            "false, '', '', '', now() FROM generate_series(1, %s) n",
            [USERS],
        )
        indexes = drop_indexes(cursor)
        copy_rows(cursor, rows)
        for sql in indexes:
            cursor.execute(sql)
        set_sequences(cursor)
        cursor.execute(
            f"INSERT INTO site_plainlog ({PLAIN}) SELECT {PLAIN} FROM myometrics_audit_auditlog"
        )
        cursor.execute("SELECT setval('site_plainlog_id_seq', %s)", [rows])
        cursor.execute("VACUUM ANALYZE")
    print(f"{rows:,} rows in {time.monotonic() - started:.0f} s", flush=True)


def drop_indexes(cursor: Any) -> list[str]:
    """Drop every index that backs no constraint; returns the SQL that makes them again."""
    cursor.execute(
        "SELECT i.indexname, i.indexdef FROM pg_indexes i WHERE i.schemaname = 'public' "
        "AND i.tablename IN ('myometrics_audit_auditlog', 'myometrics_audit_leaf') "
        "AND i.indexname NOT IN (SELECT conname FROM pg_constraint)"
    )
    found = cursor.fetchall()
    for name, _ in found:
        cursor.execute(f'DROP INDEX "{name}"')
    return [sql for _, sql in found]


def set_sequences(cursor: Any) -> None:
    cursor.execute(
        "SELECT setval(pg_get_serial_sequence('myometrics_audit_auditlog', 'id'), max(id)) "
        "FROM myometrics_audit_auditlog"
    )


def copy_rows(cursor: Any, rows: int) -> None:
    entries = generated(rows)
    while chunk := list(itertools.islice(entries, CHUNK)):
        columns = (
            "id, user_id, action, resource_type, resource_id, timestamp, ip_address, user_agent, "
            "details, pseudonym, activity_id, nonce"
        )
        with cursor.copy(f"COPY myometrics_audit_auditlog ({columns}) FROM STDIN") as copy:
            for entry, _ in chunk:
                copy.write_row(entry)
        with cursor.copy("COPY myometrics_audit_leaf (entry_id, hash, key_id) FROM STDIN") as copy:
            for entry, leaf in chunk:
                copy.write_row((entry[0], leaf, "benchmark"))


def generated(rows: int) -> Iterator[tuple[tuple[Any, ...], bytes]]:
    """Columns of an entry, and its leaf."""
    from myometrics_audit.evidence import canonical_entry, subject_of
    from myometrics_audit.keys import active_key

    rng = random.Random(7)
    key = active_key()
    subjects = {user: subject_of(user, key) for user in range(1, USERS + 1)}
    names = [name for name, _ in ACTIONS]
    actions = rng.choices(names, [weight for _, weight in ACTIONS], k=100_003)
    end = datetime.now(timezone.utc)
    step = timedelta(days=DAYS) / rows
    for number in range(1, rows + 1):
        action = actions[number % len(actions)]
        user = rng.randint(1, USERS)
        resource_type = "upload" if action.startswith("upload") else action.partition("_")[0]
        details = {"filename": f"scan_{number}.jpg", "file_size": number % 4_000_000}
        entry = SimpleNamespace(
            id=number,
            nonce=rng.randbytes(16),
            action=action,
            resource_type=resource_type,
            resource_id=f"upload_{number // 3}",
            timestamp=end - step * (rows - number),
            ip_address=f"10.0.{user % 250}.{number % 250}",
            user_agent=AGENT,
            details=details,
            activity_id=None,
        )
        message = entry.nonce + canonical_entry(entry, subjects[user])
        leaf = hmac.digest(key.entry, message, hashlib.sha256)
        row = (
            number,
            user,
            action,
            resource_type,
            entry.resource_id,
            entry.timestamp,
            entry.ip_address,
            AGENT,
            json.dumps(details),
            "",
            None,
            entry.nonce,
        )
        yield row, leaf


if __name__ == "__main__":
    main()
