"""The admin pages of the audit log."""

from __future__ import annotations

import re
from html import unescape
from importlib import reload

import audit_test_urls
import pytest
import time_machine
from django.contrib import admin
from django.db import connection
from django.http import QueryDict
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches
from django.utils import timezone

from myometrics_audit.admin import AuditLogAdmin
from myometrics_audit.models import AuditLog
from myometrics_audit.sealing import seal_pending

pytestmark = pytest.mark.django_db

URL = "/admin/myometrics_audit/auditlog/"


@pytest.fixture
def root(client, django_user_model):
    """A browser signed in to the admin."""
    client.force_login(django_user_model.objects.create_superuser(email="root@clinic.example"))
    return client


@pytest.fixture
def log(write):
    """Three sealed entries and an unsealed one."""
    entries = [write(action="viewed"), write(), write(resource_type="report", resource_id="r7")]
    list(seal_pending())
    return [*entries, write(resource_id="late", origin="client")]


@pytest.fixture
def one_day():
    """The clock stands still: what is written today is still of today when it is read."""
    with time_machine.travel(timezone.now(), tick=False):
        yield


@pytest.mark.usefixtures("one_day")
@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1, 0]),
        ("action=viewed", [0]),
        ("action=upload_created&resource_type=upload", [3, 1]),
        ("resource_type=report", [2]),
        ("user_id={user}", [3, 2, 1, 0]),
        ("user_id=nonsense", []),
        ("days=1", [3, 2, 1, 0]),
        ("days=1&action=viewed", [0]),
        ("q=r7", [2]),
        ("q=r7&action=viewed", []),
        ("q=R7", []),
        ("q=late&days=1&user_id={user}", [3]),
        ("q=late&origin=client", [3]),
        ("q=late&origin=server", []),
        ("origin=client", [3]),
        ("origin=server&action=upload_created&days=1", [2, 1]),
        ("origin=import", []),
        ("origin=nonsense", []),
        ("origin=%00", []),
        ("action=%00", []),
        ("o=4", [3, 2, 1, 0]),
    ],
)
def test_admin_filters_and_search_find_matching_entries(root, log, user, query, found):
    answer = root.get(f"{URL}?{query.format(user=user.pk)}")
    assert answer.status_code == 200
    changelist = answer.context["cl"]
    assert [entry.pk for entry in changelist.result_list] == [log[place].pk for place in found]
    assert changelist.result_count == len(found)


def test_admin_list_uses_stored_counts_and_constant_queries(root, log, write):
    with CaptureQueriesContext(connection) as first:
        root.get(URL)
    for _ in range(20):
        write()
    list(seal_pending())
    with CaptureQueriesContext(connection) as second:
        root.get(URL)
    assert len(second) == len(first)
    table = AuditLog._meta.db_table
    counting = f'SELECT COUNT(*) AS "__count" FROM "{table}"'
    assert not [query for query in second if query["sql"].startswith(counting)]


def test_admin_list_shows_verification_state(root, log):
    from myometrics_audit.models import Verification

    assert "Never verified" in root.get(URL).content.decode()
    now = timezone.now()
    Verification.objects.create(
        started_at=now, finished_at=now, seal_number=1, sealed_at=now, entries=3, problems=0
    )
    page = root.get(URL).content.decode()
    assert "Verified up to seal 1" in page
    assert "1 entries are not sealed yet" in page


def test_admin_list_shows_actions_in_words_and_short_ids(root, write):
    write(action="login_failed", resource_type="session", resource_id="0bb00185-3bb1-4426-9b16")
    page = root.get(URL).content.decode()
    assert '<span class="nowrap" title="login_failed">Login failed</span>' in page
    assert ">session 0bb00185-3bb1-4…</span>" in page
    entry = root.get(f"{URL}{AuditLog.objects.get().pk}/change/").content.decode()
    assert "Login failed (login_failed)" in entry
    assert "0bb00185-3bb1-4426-9b16" in entry


def test_admin_entry_shows_its_evidence(root, log):
    page = root.get(f"{URL}{log[0].pk}/change/").content.decode()
    assert "seal 1" in page
    assert '<div class="readonly">server</div>' in page


@pytest.mark.parametrize("origin", ["client", "server", "import"])
def test_admin_entry_shows_its_origin(root, write, origin):
    page = root.get(f"{URL}{write(origin=origin).pk}/change/").content.decode()
    assert f'<div class="readonly">{origin}</div>' in page


def test_link_to_the_entries_of_a_user_quotes_a_key_that_is_text(django_user_model):
    key = "anna+x&days=1@clinic.example"
    entry = AuditLog(user=django_user_model(pk=key, email=key))
    link = AuditLogAdmin(AuditLog, admin.site).user_link(entry)
    query = re.search(r'href="\?([^"]*)"', link)[1]
    assert QueryDict(unescape(query)).dict() == {"user_id": key}


def test_admin_can_delete_a_user_with_entries(root, log, user):
    class PersonAdmin(admin.ModelAdmin):
        pass

    model = type(user)
    admin.site.register(model, PersonAdmin)
    try:
        clear_url_caches()
        reload(audit_test_urls)
        url = f"/admin/clinic_site/person/{user.pk}/delete/"
        answer = root.post(url, {"post": "yes"})
        assert answer.status_code == 302, answer.content.decode()
    finally:
        admin.site.unregister(model)
        clear_url_caches()
        reload(audit_test_urls)
    assert not model.objects.filter(pk=user.pk).exists()
    assert not AuditLog.objects.exists()


@pytest.mark.parametrize("name", ["seal", "erasure", "verification"])
def test_admin_evidence_is_read_only(root, log, user, name):
    user.delete()
    list(seal_pending())
    base = f"/admin/myometrics_audit/{name}/"
    assert root.get(base).status_code == 200
    assert root.get(f"{base}add/").status_code == 403
