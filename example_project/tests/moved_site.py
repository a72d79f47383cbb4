"""A composed site whose data move to other databases: ``moved_site.py FOLDER …``.

Fills the site of ``DATABASE_URL``, dumps it into the first folder in every format and keeps what it
answers. Then loads each dump in the folders into a new database beside it, and compares.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from difflib import unified_diff
from io import StringIO
from pathlib import Path
from typing import Any
from unittest.mock import patch

import django
import pytest

django.setup()
# ruff: noqa: E402 (models need that)

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core import mail
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max
from django.db.models.functions import Trunc
from django.test import override_settings
from rest_framework.test import APIClient
from time_machine import travel

from myometrics_analytics.models import PendingChange
from myometrics_audit import audit
from myometrics_audit.log.inserts import insert_entry
from myometrics_audit.models import AuditLog, Leaf, Seal
from myometrics_audit.signing.keys import active_key
from myometrics_audit.signing.signatures import entry_leaf, new_nonce, subject_of
from myometrics_auth.models import Session
from myometrics_auth.tokens import access_token
from myometrics_notifications.models import Message
from myometrics_testing.waiting import wait_for

FORMATS = ("json", "jsonl", "xml", "yaml")
DUMP = ("--natural-foreign", "--exclude=contenttypes", "--exclude=auth.permission")
SIGNING = ("core.events.bus", "audit.sealing.seals", "audit.sealing.erasures")
PASSWORD = "correct-horse-battery"
ODD = '  \x01 line\r\nend \ufffe\U0001f600 \\json "x" '
ROOT, ADA, BOB, EVE = (f"{name}@clinic.example" for name in ("root", "ada", "bob", "eve"))
PAGES = {
    ROOT: ("audit-logs/?page_size=100", "analytics/", "users/"),
    ADA: (
        "auth/user/",
        "auth/sessions/",
        "users/me/activity/",
        "users/me/notifications/",
        "users/me/export/?format=json",
        "users/me/export/?format=csv",
    ),
}
User = get_user_model()


def command(name, *arguments):
    """What a management command prints."""
    printed = StringIO()
    call_command(name, *arguments, stdout=printed)
    return printed.getvalue()


def client_of(email):
    """A client with a user's first session."""
    session = Session.objects.filter(user__email=email).order_by("created_at").first()
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {access_token(session)}")


def ask(client, method, path, body=None, status=200):
    """The answer of the API, which has ``status``."""
    answer = client.generic(
        method, f"/api/{path}", json.dumps(body), "application/json", HTTP_USER_AGENT="a\x07 b"
    )
    assert answer.status_code == status, (path, answer.status_code, answer.content[:500])
    return answer


def upload(email, name, **details):
    """Report a finished upload."""
    body = {
        "action": "upload_completed",
        "resource_type": "upload",
        "resource_id": name,
        "details": details,
    }
    ask(client_of(email), "POST", "audit-logs/", body, 201)


def register(email, **names):
    """Register an account."""
    body = {"firstName": "A", "lastName": "B", "clinicName": "C", "role": "doctor", **names}
    body |= {"email": email, "password": PASSWORD}
    ask(APIClient(), "POST", "auth/register/", body, 201)


def fill(folder):
    """Fill the site, dump it, keep its answers."""
    root = User.objects.create_superuser(ROOT, PASSWORD)
    ask(APIClient(), "POST", "auth/login/", {"email": ROOT, "password": PASSWORD})
    register(ADA, firstName="A\x02da\ufffeX", clinicName="A\rB")
    register(BOB)
    register(EVE)
    ask(APIClient(), "POST", "auth/login/", {"email": ADA, "password": "wrong"}, 401)
    with sign_with_microseconds():
        upload(ADA, "old", filename="old.jpg\x03", diagnosis="D\x04\rE", processing_time=2.5)
        audit.record(
            actor=root,
            action=ODD,
            resource=(ODD, ODD),
            details={ODD: [ODD, 1e22, -0.0]},
            data_subject=ODD,
            purpose=ODD,
            legal_basis=ODD,
            origin="import",
        )
        write_version_1(root)
        upload(BOB, "b\x05", diagnosis="Normal")
        command("audit_seal")
        with override_settings(
            MYOMETRICS_AUDIT={**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
        ):
            User.objects.get(email=BOB).delete()
    command("analytics_fold")
    command("jobs_run", "--once", "--kind", "myometrics_notifications.deliver")
    switches = {"upload_completed": True, "system_alerts": True}
    ask(client_of(ADA), "PATCH", "users/me/notifications/", switches)
    upload(ADA, "new", diagnosis="Normal", processing_time=0.1)
    ada = User.objects.get(email=ADA)
    ada.user_permissions.add(Permission.objects.get(codename="view_auditlog"))
    ada.groups.add(Group.objects.create(name="Readers"))
    # Django's own columns, whose times Django's JSON cuts.
    User.objects.update(
        **{name: Trunc(F(name), "second") for name in ("date_joined", "last_login")}
    )
    # Ids of erased entries must not be reused.
    upload(EVE, "gone")
    User.objects.get(email=EVE).delete()
    assert Leaf.objects.aggregate(n=Max("pk"))["n"] > AuditLog.objects.aggregate(n=Max("pk"))["n"]
    assert PendingChange.objects.exists()
    assert any(time.microsecond % 1000 for time in Seal.objects.values_list("sealed_at", flat=True))
    mail.outbox = []
    for name in FORMATS:
        command("dumpdata", *DUMP, f"--format={name}", f"--output={folder}/site.{name}")
    (folder / "answers.new").write_text(json.dumps(answers()))
    (folder / "answers.new").rename(folder / "answers")


@contextmanager
def sign_with_microseconds():
    """Write events and evidence as release 0.1 did."""
    with ExitStack() as patches:
        for module in SIGNING:
            patches.enter_context(patch(f"myometrics_{module}.whole_milliseconds", precise))
        yield


def write_version_1(user):
    """Write an entry with a leaf of version 1, as release 0.1 did."""
    key, entry = active_key(), AuditLog(user=user, action=ODD, resource_type="a", resource_id="b")
    entry.timestamp, entry.nonce = precise(entry.timestamp), new_nonce()
    leaf = entry_leaf(entry, subject_of(user.pk, key), key), key.id, None
    insert_entry(entry, leaf_table=Leaf._meta.db_table, leaf=leaf, using="default")


def precise(moment):
    """``moment`` with microseconds that milliseconds do not hold."""
    return moment.replace(microsecond=moment.microsecond // 10 * 10 + 7)


def answers():
    """The site's responses; the requests leave no rows."""
    found: dict[str, Any] = {}
    # The days must not depend on the time of the load.
    now = AuditLog.objects.aggregate(n=Max("timestamp"))["n"] + timedelta(hours=1)
    for email, paths in PAGES.items():
        for path in paths:
            with travel(now, tick=False), transaction.atomic():
                answer = ask(client_of(email), "GET", path)
                body = b"".join(answer.streaming_content) if answer.streaming else answer.content
                text = body.decode()
                found[path] = table(text) if path.endswith("csv") else json.loads(text)
                transaction.set_rollback(True)
    logs = found["users/me/export/?format=json"]["audit_logs"]
    assert logs.pop()["action"] == "data_exported"  # the entry of this very export
    # The first line says when it was made.
    found["proofs"] = [json.loads(line) for line in command("audit_export").splitlines()[1:]]
    found["permissions"] = sorted(User.objects.get(email=ADA).get_all_permissions())
    return found


def table(text):
    """The rows of an export as CSV, without the entry of this very export."""
    rows = list(csv.reader(StringIO(text, newline="")))
    own = next(row[:2] for row in rows if row[3] == "data_exported")
    return [row for row in rows if row[:2] != own]


def load(folder, empty):
    """Load each dump in ``folder`` into a copy of the database ``empty``, and compare."""
    wait_for((folder / "answers").exists)
    expected = json.loads((folder / "answers").read_text())
    for name in FORMATS:
        connection.close()
        connection.settings_dict["NAME"] = copy_of(empty, f"{folder.name}_{name}")
        ContentType.objects.clear_cache()
        check_loaded(folder / f"site.{name}", expected)


def copy_of(database, name):
    """A copy of a database without connections, on the same server or in its folder."""
    if connection.vendor == "sqlite":
        return str(shutil.copy(database, Path(database).with_name(f"{name}.sqlite3")))
    connection.settings_dict["NAME"] = "postgres"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} TEMPLATE {database}")
    connection.close()
    return name


def main(*folders):
    """Fill, dump, load."""
    command("migrate", "--verbosity=0")
    connection.close()
    source = connection.settings_dict["NAME"]
    empty = copy_of(source, "empty")
    connection.settings_dict["NAME"] = source
    fill(folders[0])
    for folder in folders:
        load(folder, empty)


def check_loaded(dump, expected):
    """Load ``dump`` twice, compare the responses, and use the site."""
    queued = Message.objects.filter(state="queued")
    mail.outbox = []
    command("loaddata", str(dump))
    assert not mail.outbox
    verified()
    found = answers()
    for path, answer in expected.items():
        assert found[path] == answer, difference(answer, found[path], f"{dump} {path}")
    with pytest.raises(IntegrityError, match="loaddata needs a database without entries"):
        command("loaddata", str(dump))
    assert answers() == found
    # The loaded site works.
    due = queued.count()
    assert due
    command("jobs_run", "--once", "--kind", "myometrics_notifications.deliver")
    assert len(mail.outbox) == due
    last = Leaf.objects.aggregate(n=Max("pk"))["n"]
    upload(ADA, "after", diagnosis="Normal")
    assert AuditLog.objects.get(resource_id="after").pk > last
    command("audit_seal")
    command("analytics_fold")
    verified()


def difference(before, after, name):
    """The lines in which two responses differ."""
    texts = [json.dumps(answer, indent=1, sort_keys=True).split("\n") for answer in (before, after)]
    return "\n".join(unified_diff(*texts, "before", name, lineterm=""))


def verified():
    """Run all checks."""
    assert "No problems." in command("audit_verify")
    assert "Every rollup equals the facts." in command("analytics_check")


if __name__ == "__main__":
    settings.MYOMETRICS["RATE_LIMITS"] = {"auth": None, "api": None, "export": None}
    main(*map(Path, sys.argv[1:]))
