"""New migrations keep large tables readable and writable: no scan or rewrite under a lock."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from myometrics_testing.commands.repository import ROOT
from myometrics_testing.releases import previous_wheels

pytestmark = pytest.mark.any_database

LARGE_TABLES = (
    "myometrics_analytics_upload",
    "myometrics_audit_auditlog",
    "myometrics_audit_erasure",
    "myometrics_audit_leaf",
    "myometrics_audit_seal",
    "myometrics_auth_session",
    "myometrics_notifications_message",
)
MIGRATE = """
import json, sys
from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

released, tables = json.loads(sys.stdin.read())
statements = []

def files():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, relfilenode FROM pg_class WHERE relname = ANY(%s)", [tables]
        )
        return dict(cursor.fetchall())

def note(execute, sql, parameters, many, context):
    statements.append(str(sql))
    return execute(sql, parameters, many, context)

for app, name in released:
    call_command("migrate", app, name, verbosity=0)
before = files()
with connection.execute_wrapper(note):
    call_command("migrate", verbosity=0)
after = files()
rewritten = [table for table in before if before[table] != after.get(table)]
print(json.dumps([sorted(before), rewritten, statements]))
"""
BRIEF = (
    r"ADD COLUMN (?!.* (UNIQUE|PRIMARY KEY|GENERATED)\b)(?!(?!.* DEFAULT ).* NOT NULL)",
    r"DROP (COLUMN|CONSTRAINT) ",
    r"ALTER COLUMN \S+ (DROP (NOT NULL|DEFAULT)|SET DEFAULT .*)$",
    r"ADD CONSTRAINT .* NOT VALID",
    r"VALIDATE CONSTRAINT ",
    r"RENAME ",
    r"(RE)?SET \((auto)?vacuum_",
)
"""Actions of ALTER TABLE without a table scan or a blocking lock."""


def problems(statements, tables):
    """The statements that scan, rewrite or block one of ``tables``, which exist before them."""
    names = "|".join(map(re.escape, tables))
    on_large = re.compile(rf'\b(ON|TABLE|UPDATE|FROM|INTO)( ONLY| IF EXISTS)? "?({names})"?(\s|\()')
    has_timeout = False
    for statement in statements:
        text = " ".join(statement.split())
        if re.match(r"SET (LOCAL )?lock_timeout = '?[1-9]", text):
            has_timeout = True
        elif re.match(r'INSERT INTO "?django_migrations', text):
            has_timeout = False
        elif re.match(r"DROP INDEX (?!CONCURRENTLY)", text):
            yield f"blocks: {text}"
        elif on_large.search(f"{text} "):
            problem = _problem(text, has_timeout=has_timeout)
            if problem:
                yield f"{problem}: {text}"


def _problem(text, *, has_timeout):
    if text.startswith("ALTER TABLE"):
        change = re.sub(r'ALTER TABLE (ONLY )?"?\w+"? ', "", text)
        if not any(re.match(brief, change) for brief in BRIEF):
            return "scans or rewrites the table"
        return None if has_timeout else "waits for its lock without lock_timeout"
    if re.match(r"CREATE (UNIQUE )?INDEX (?!CONCURRENTLY)", text):
        return "blocks writers"
    if re.match(r"(UPDATE|DELETE|LOCK|TRUNCATE|CLUSTER|REINDEX|DROP TABLE)\b", text):
        return "locks rows or the table"
    if re.match(r"(CREATE|DROP) TRIGGER", text) and not has_timeout:
        return "waits for its lock without lock_timeout"
    return None


def test_migrations_since_last_release_spare_large_tables(postgresql_server):
    environment = {
        **os.environ,
        "DATABASE_URL": postgresql_server.url,
        "DEBUG": "true",
        "REDIS_URL": "",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "-c", MIGRATE],
        cwd=ROOT / "example_project",
        env=environment,
        input=json.dumps([_released_migrations(), LARGE_TABLES]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables, rewritten, statements = json.loads(done.stdout.splitlines()[-1])
    assert "myometrics_audit_auditlog" in tables
    assert rewritten == []
    assert list(problems(statements, tables)) == []


def _released_migrations():
    """The last migration of each app in the wheels of the last releases."""
    last: dict[str, str] = {}
    for wheel in previous_wheels().values():
        for path in sorted(zipfile.ZipFile(wheel).namelist()):
            found = re.fullmatch(r"(\w+/)*(\w+)/migrations/(\d\w+)\.py", path)
            if found:
                last[_label(found[2])] = found[3]
    return sorted(last.items())


def _label(folder):
    return folder if folder.startswith("myometrics_") else f"myometrics_{folder}"


@pytest.mark.parametrize(
    "statements",
    [
        ['ALTER TABLE "t" ADD COLUMN "a" varchar(10) NULL'],
        ["SET LOCAL lock_timeout = 2000", 'ALTER TABLE "t" ADD COLUMN "a" integer NOT NULL'],
        ["SET LOCAL lock_timeout = 2000", 'ALTER TABLE "t" ADD COLUMN "a" integer NULL UNIQUE'],
        ["SET LOCAL lock_timeout = 2000", 'ALTER TABLE "t" ALTER COLUMN "a" SET NOT NULL'],
        ["SET LOCAL lock_timeout = 2000", 'ALTER TABLE "t" ALTER COLUMN "a" TYPE bigint'],
        ["SET LOCAL lock_timeout = 2000", 'ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (a > 0)'],
        [
            "SET LOCAL lock_timeout = 2000",
            'INSERT INTO "django_migrations" ("app") VALUES (%s)',
            'ALTER TABLE "t" DROP COLUMN "a"',
        ],
        ['CREATE INDEX "i" ON "t" ("a")'],
        ['CREATE UNIQUE INDEX "i" ON "t" ("a")'],
        ['DROP INDEX IF EXISTS "i"'],
        ['UPDATE "t" SET "a" = 1'],
        ['DELETE FROM "t" WHERE "a" = 1'],
        ['CREATE TRIGGER g BEFORE UPDATE ON "t" FOR EACH ROW EXECUTE FUNCTION g()'],
    ],
    ids=lambda statements: statements[-1][:60],
)
def test_statement_that_scans_or_blocks_is_found(statements):
    assert len(list(problems(statements, ["t"]))) == 1


@pytest.mark.parametrize(
    "statement",
    [
        'ALTER TABLE "t" ADD COLUMN "a" varchar(10) NULL',
        'ALTER TABLE "t" ADD COLUMN "a" integer DEFAULT 0 NOT NULL',
        'ALTER TABLE "t" DROP COLUMN "a" CASCADE',
        'ALTER TABLE "t" ALTER COLUMN "a" DROP NOT NULL',
        'ALTER TABLE "t" ADD CONSTRAINT "c" CHECK (a > 0) NOT VALID',
        'ALTER TABLE "other" ALTER COLUMN "a" TYPE bigint',
        'CREATE INDEX CONCURRENTLY "i" ON "t" ("a")',
        'CREATE INDEX "i" ON "other" ("a")',
        'DROP INDEX CONCURRENTLY IF EXISTS "i"',
        'SELECT * FROM "t"',
        'INSERT INTO "t" ("a") VALUES (1)',
    ],
)
def test_brief_statement_passes(statement):
    assert list(problems(["SET LOCAL lock_timeout = 2000", statement], ["t"])) == []
