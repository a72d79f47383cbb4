"""The admin list: to read, with filters and pages of the log's own."""

from __future__ import annotations

from importlib import reload
from typing import Any

import audit_test_urls
import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches
from django.utils import timezone

from myometrics_audit.models import AuditLog
from myometrics_audit.sealing import seal_pending

pytestmark = pytest.mark.django_db

URL = "/admin/myometrics_audit/auditlog/"


@pytest.fixture
def root(client: Any, django_user_model: Any) -> Any:
    """A browser signed in to the admin."""
    client.force_login(django_user_model.objects.create_superuser(email="root@clinic.example"))
    return client


@pytest.fixture
def log(write: Any) -> list[AuditLog]:
    """Three sealed entries and one that waits."""
    entries = [write(action="viewed"), write(), write(resource_type="report", resource_id="r7")]
    list(seal_pending())
    return [*entries, write(resource_id="late", origin="client")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [3, 2, 1, 0]),
        ("action=viewed", [0]),
        ("action=upload_created&resource_type=upload", [3, 1]),
        ("resource_type=report", [2]),
        ("user_id={person}", [3, 2, 1, 0]),
        ("user_id=nonsense", []),
        ("days=1", [3, 2, 1, 0]),
        ("days=1&action=viewed", [0]),
        ("q=r7", [2]),
        ("q=r7&action=viewed", []),
        ("q=R7", []),
        ("q=late&days=1&user_id={person}", [3]),
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
def test_filters_and_search_find_what_they_say(
    root: Any, log: list[AuditLog], person: Any, query: str, found: list[int]
) -> None:
    answer = root.get(f"{URL}?{query.format(person=person.pk)}")
    assert answer.status_code == 200
    changelist = answer.context["cl"]
    assert [entry.pk for entry in changelist.result_list] == [log[place].pk for place in found]
    assert changelist.result_count == len(found)


def test_the_list_counts_by_stored_counts_and_asks_a_fixed_number_of_queries(
    root: Any, log: Any, write: Any
) -> None:
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


def test_the_list_says_how_far_the_log_is_verified(root: Any, log: Any) -> None:
    from myometrics_audit.models import Verification

    assert "Never verified" in root.get(URL).content.decode()
    now = timezone.now()
    Verification.objects.create(
        started_at=now, finished_at=now, seal_number=1, sealed_at=now, entries=3, problems=0
    )
    page = root.get(URL).content.decode()
    assert "Verified up to seal 1" in page
    assert "1 entries are not sealed yet" in page


def test_an_entry_shows_its_evidence(root: Any, log: list[AuditLog]) -> None:
    page = root.get(f"{URL}{log[0].pk}/change/").content.decode()
    assert "seal 1" in page
    assert '<div class="readonly">server</div>' in page


def test_a_person_with_entries_can_be_deleted_in_the_admin(
    root: Any, log: Any, person: Any
) -> None:
    class PersonAdmin(admin.ModelAdmin):
        pass

    model = type(person)
    admin.site.register(model, PersonAdmin)
    try:
        clear_url_caches()
        reload(audit_test_urls)
        url = f"/admin/clinic_site/person/{person.pk}/delete/"
        answer = root.post(url, {"post": "yes"})
        assert answer.status_code == 302, answer.content.decode()
    finally:
        admin.site.unregister(model)
        clear_url_caches()
        reload(audit_test_urls)
    assert not model.objects.filter(pk=person.pk).exists()
    assert not AuditLog.objects.exists()


@pytest.mark.parametrize("name", ["seal", "erasure", "verification"])
def test_evidence_can_be_read_but_not_changed(root: Any, log: Any, person: Any, name: str) -> None:
    person.delete()
    list(seal_pending())
    base = f"/admin/myometrics_audit/{name}/"
    assert root.get(base).status_code == 200
    assert root.get(f"{base}add/").status_code == 403
