"""The site behind PgBouncer in transaction mode, set up as ``docs/operations/deployment.md`` says.

Three connections of PostgreSQL serve eight threads, a worker and commands, so that state beyond
a transaction is lost.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import psycopg
import pytest
from load import Load, upload
from running_site import ADMIN, LONG_TIMEOUTS, PASSWORD, PROJECT, RunningSite

from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.long, pytest.mark.program("pgbouncer")]

PAGE = (PROJECT.parent / "docs" / "operations" / "deployment.md").read_text(encoding="utf-8")
UPLOADS = 6000
SWITCHES = {"email_notifications": True, "upload_complete": True}
EMAILS = ["ada@clinic.example", "bob@clinic.example", "eve@clinic.example"]
FILL = f"""
from datetime import datetime, timedelta, timezone
from django.contrib.auth import get_user_model
from myometrics_analytics.models import Upload
from django.core.management import call_command
User = get_user_model()
call_command("createsuperuser", "--noinput")
start = datetime(2026, 1, 1, tzinfo=timezone.utc)
for email in {EMAILS!r}:
    user = User.objects.create_user(email=email, password={PASSWORD!r})
    Upload.objects.bulk_create(
        Upload(
            user=user, upload_id=f"u{{number}}", day=start.date(), status="completed",
            uploaded_at=start + timedelta(seconds=number // 2), diagnosis="normal",
        )
        for number in range({UPLOADS})
    )
"""
COMMANDS = """
import time
from django.core.management import call_command
for name in ("audit_verify", "analytics_rebuild"):
    call_command(name)
while True:
    try:
        call_command("audit_seal")
        break
    except SystemExit:  # the worker is sealing
        time.sleep(0.1)
for name in ("analytics_fold", "audit_verify"):
    call_command(name)
"""
EXPORT = f"""
import json
from concurrent.futures import ThreadPoolExecutor
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import connection
from myometrics_core.personal_data import export_chunks
def count(user):
    exported = json.loads(b"".join(export_chunks(user, "json")))
    connection.close()
    return len(exported["uploads"])
users = list(get_user_model().objects.filter(email__in={EMAILS!r})) * 2
call_command("audit_verify")
call_command("analytics_rebuild", "--restart")
with ThreadPoolExecutor(3) as pool:
    print(set(pool.map(count, users)))
"""


def code_blocks(language):
    """The blocks of ``language`` in the page's section about PgBouncer."""
    section = PAGE.partition("### PgBouncer")[2].partition("\n### ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


def variables(text):
    """The variables that ``text`` sets, without the database address."""
    found = dict(re.findall(r"\b([A-Z_]+)=(\S+)", text))
    assert found.pop("DATABASE_URL").startswith("postgresql://site:password@127.0.0.1:")
    return found


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "documented.ini").write_text(code_blocks("cfg")[0])
    with ExitStack() as stack:
        postgresql = stack.enter_context(OwnedServer("postgresql"))
        redis = stack.enter_context(OwnedServer("redis"))
        pooler = OwnedServer("pgbouncer", postgresql.url, str(folder / "documented.ini"))
        stack.enter_context(pooler)
        yield folder, postgresql, redis, pooler


@pytest.fixture(scope="module")
def site(servers):
    folder, postgresql, redis, pooler = servers
    site = RunningSite(folder, pooler.url, redis.url)
    site.environment |= {
        "RATE_LIMIT_AUTH": "10000/minute",
        "RATE_LIMIT_API": "100000/minute",
        "RATE_LIMIT_EXPORT": "10000/hour",
        **LONG_TIMEOUTS,
    }
    through_the_pooler = {**site.environment, **variables(code_blocks("sh")[0])}
    (migrate,) = code_blocks("console")
    site.environment |= {**variables(migrate), "DATABASE_URL": postgresql.url}
    site.manage(*migrate.partition("manage.py ")[2].split(), "--verbosity=0")
    site.environment = through_the_pooler
    try:
        for name in ("web", "worker", "beat"):
            site.run(name)
        site.environment |= {
            "DJANGO_SUPERUSER_EMAIL": ADMIN,
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }
        site.manage("shell", "--command", FILL)
        site.wait_until_ready()
        yield site
    finally:
        site.stop()


def sign_in(site, email):
    body = {"email": email, "password": PASSWORD}
    answer = httpx.post(f"{site.url}/api/auth/login/", json=body, timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access"])


def export(site, access, kind):
    answer = site.request(access, "GET", f"/users/me/export/?format={kind}")
    assert answer.status_code == 200, answer.text
    return answer.text


def test_exports_and_commands_are_complete_under_load(site):
    site.request(sign_in(site, EMAILS[0]), "PATCH", "/users/me/notifications/", SWITCHES)
    users = [sign_in(site, email) for email in EMAILS]
    with Load(site.url, users[1], clients=2) as load, ThreadPoolExecutor() as pool:
        written = [site.request(users[0], "POST", "/audit-logs/", upload(n)) for n in range(3)]
        as_json = [pool.submit(export, site, access, "json") for access in users]
        done = pool.submit(site.manage, "shell", "--command", COMMANDS)
        for exported in map(json.loads, (future.result() for future in as_json)):
            assert exported["complete"] is True
            assert len({one["id"] for one in exported["uploads"]}) == UPLOADS
        for text in pool.map(export, [site] * 3, users, ["csv"] * 3):
            assert text.endswith("export,,complete,true\r\n")
            assert len(re.findall(r"^uploads,\d+,id,u\d+\r$", text, re.MULTILINE)) == UPLOADS
        load.wait_for_successes()
        done.result()
    assert {answer.status_code for answer in written} == {201}
    assert (load.refused, load.broken) == ([], [])
    assert site.mail_to(EMAILS[0], 3)
    assert not re.findall(r".*(?:\"level\": \"ERROR\"|Traceback).*", site.log)


def test_worker_seals_and_folds(site, servers):
    _, postgresql, _, _ = servers
    assert site.request(sign_in(site, ADMIN), "POST", "/audit-logs/", upload(9)).status_code == 201
    with psycopg.connect(postgresql.url, autocommit=True) as connection:

        def is_done():
            found = connection.execute(
                "SELECT (SELECT count(*) FROM myometrics_audit_leaf WHERE seal_number IS NULL)"
                " + (SELECT count(*) FROM myometrics_analytics_pendingchange)"
            ).fetchone()
            return found == (0,)

        wait_for(is_done, log=lambda: site.log)


def test_packages_work_without_pooling_settings_of_host(site):
    """Stock Django: server-side cursors, and no prepared statements."""
    with Load(site.url, sign_in(site, EMAILS[1]), clients=2) as load:
        site.environment |= {
            "DATABASE_POOLING": "none",
            "DATABASE_URL": site.environment["DATABASE_URL"] + "?prepare_threshold=1000000",
        }
        load.wait_for_successes()
        printed = site.manage("shell", "--command", EXPORT)
        assert printed.strip().endswith(f"{{{UPLOADS}}}")
    assert (load.refused, load.broken) == ([], [])
