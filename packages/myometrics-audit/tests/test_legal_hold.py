"""Legal holds: held entries are never erased, until the hold is released."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from io import StringIO

import pytest
from django.contrib.auth.models import Permission
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from myometrics_audit.legal_hold.admin import LegalHoldAdmin
from myometrics_audit.legal_hold.models import LegalHold
from myometrics_audit.legal_hold.personal_data import LegalHoldsSection
from myometrics_audit.legal_hold.services import hold_place, hold_release
from myometrics_audit.models import AuditLog, Erasure
from myometrics_audit.sealing import LogVerifier, holds, seal_pending
from myometrics_audit.sealing.erasures import entries_erase_or_retain, entries_purge_chunk
from myometrics_core.events import is_reserved_action
from myometrics_core.personal_data import erase_user

pytestmark = pytest.mark.django_db

MOMENT = datetime(2020, 5, 6, 7, 8, tzinfo=timezone.utc)
CUTOFF = datetime(2025, 1, 1, tzinfo=timezone.utc)
URL = "/admin/myometrics_audit_legal_hold/legalhold/"


def purge(*options):
    output = StringIO()
    arguments = ["--older-than", "2025-01-01", "--json", *options]
    call_command("audit_purge", *arguments, stdout=output)
    return json.loads(output.getvalue())


def problems():
    return [str(problem) for problem in LogVerifier().problems()]


def old_entries():
    return AuditLog.objects.filter(timestamp__lt=CUTOFF)


@pytest.fixture
def log(write, administrator):
    """Old entries: of a user, about a data subject, both, and neither."""
    for actor in (administrator, None):
        for data_subject in ("p1", ""):
            write(user=actor, data_subject=data_subject, timestamp=MOMENT)
    list(seal_pending())


@pytest.fixture
def officer(django_user_model):
    """The user who places and releases holds."""
    return django_user_model.objects.create_user(email="dpo@clinic.example", is_staff=True)


@pytest.mark.parametrize(
    ("held", "kept"), [({"user": True}, 2), ({"data_subject": "p1"}, 2), ({}, 0)]
)
def test_purge_keeps_held_entries_until_the_release(log, administrator, officer, held, kept):
    if held.get("user"):
        held = {"user": administrator}
    hold = hold_place(actor=officer, reason="court", **held) if held else None
    assert purge() == {
        "older_than": "2025-01-01",
        "due": 4 - kept,
        "held": kept,
        "partitions": 0,
        "purged": 0,
        "archives": [],
    }
    assert purge("--execute")["purged"] == 4 - kept
    assert old_entries().count() == kept
    assert not problems()
    if hold:
        hold_release(hold, actor=officer)
        assert purge("--execute")["purged"] == kept
    assert not old_entries().exists()
    assert not problems()


def test_entry_under_two_holds_is_kept_until_both_are_released(log, administrator, officer):
    first = hold_place(actor=officer, reason="court", user=administrator)
    second = hold_place(actor=officer, reason="insurance", data_subject="p1")
    hold_release(first, actor=officer)
    assert purge("--execute")["purged"] == 2
    hold_release(second, actor=officer)
    assert purge("--execute")["purged"] == 2


@pytest.mark.parametrize("remove", [erase_user, lambda user: user.delete()])
@pytest.mark.parametrize("way", ["cascade", "retain"])
def test_deleted_users_held_entries_stay_under_the_pseudonym(
    log, administrator, officer, remove, way, settings
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": way}
    hold = hold_place(actor=officer, reason="court", user=administrator)
    remove(administrator)
    (pseudonym,) = set(AuditLog.objects.exclude(pseudonym="").values_list("pseudonym", flat=True))
    assert AuditLog.objects.filter(pseudonym=pseudonym).count() == 2
    hold.refresh_from_db()
    assert (hold.user_id, hold.pseudonyms) == (None, [pseudonym])
    assert purge("--execute")["purged"] == 2
    assert old_entries().count() == 2
    hold_release(hold, actor=officer)
    assert purge("--execute")["purged"] == 2
    assert not problems()


def test_deletion_erases_what_is_not_held(log, administrator, officer):
    hold_place(actor=officer, reason="court", data_subject="p1")
    administrator.delete()
    retained = AuditLog.objects.exclude(pseudonym="").get()
    assert (retained.data_subject, retained.user_id) == ("p1", None)
    assert sorted(Erasure.objects.values_list("reason", "entries")) == [("retain", 1), ("user", 1)]
    assert not problems()


def test_erasure_without_the_app_asks_for_no_holds(log, user, write, monkeypatch):
    write()
    monkeypatch.setattr(holds, "_registered", [])
    with CaptureQueriesContext(connection) as queries:
        assert entries_purge_chunk(before=CUTOFF, limit=10, using="default") == 4
        entries_erase_or_retain(user=user, using="default")
    assert not [query for query in queries if "legal_hold" in query["sql"]]


def test_holds_are_read_by_one_statement_per_chunk(log, officer):
    for number in range(5):
        hold_place(actor=officer, reason="court", data_subject=f"p{number}")
    with CaptureQueriesContext(connection) as queries:
        assert entries_purge_chunk(before=CUTOFF, limit=10, using="default") == 2
    assert len([query for query in queries if "legal_hold" in query["sql"]]) == 1


def test_placing_and_releasing_are_entries_of_the_log(administrator, officer):
    hold = hold_place(actor=officer, reason=" court ", user=administrator)
    hold_release(hold, actor=officer)
    other = hold_place(actor=officer, reason="court", data_subject="p1")
    entries = AuditLog.objects.filter(resource_type="legal_hold").order_by("pk")
    assert [(e.action, e.resource_id, e.user, e.data_subject) for e in entries] == [
        ("legal_hold_placed", str(hold.pk), officer, ""),
        ("legal_hold_released", str(hold.pk), officer, ""),
        ("legal_hold_placed", str(other.pk), officer, "p1"),
    ]
    assert entries[0].details == {"reason": "court", "user_id": str(administrator.pk)}
    assert is_reserved_action("legal_hold_placed")
    assert is_reserved_action("legal_hold_released")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"reason": "court"}, "data_subject"),
        ({"reason": "court", "user": True, "data_subject": "p1"}, "data_subject"),
        ({"reason": "court", "data_subject": "p" * 101}, "data_subject"),
        ({"reason": "court", "data_subject": "p\x00"}, "data_subject"),
        ({"reason": " ", "data_subject": "p1"}, "reason"),
        ({"reason": "r" * 1001, "data_subject": "p1"}, "reason"),
    ],
)
def test_incomplete_hold_is_refused(officer, user, values, field):
    if values.get("user"):
        values = {**values, "user": user}
    with pytest.raises(ValidationError) as refused:
        hold_place(actor=officer, **values)
    assert set(refused.value.message_dict) == {field}
    assert not LegalHold.objects.exists()


def test_hold_on_a_deleted_user_is_refused(officer, user):
    copy = type(user).objects.get(pk=user.pk)
    user.delete()
    with pytest.raises(ValidationError, match="was deleted"):
        hold_place(actor=officer, reason="court", user=copy)


def test_hold_is_released_once(officer):
    hold = hold_place(actor=officer, reason="court", data_subject="p1")
    hold_release(hold, actor=officer)
    with pytest.raises(ValidationError, match="released already"):
        hold_release(LegalHold.objects.get(), actor=officer)
    assert AuditLog.objects.filter(action="legal_hold_released").count() == 1


@pytest.fixture
def staff(client, officer):
    """A function that signs the officer in with these permissions."""

    def sign_in(*codenames):
        officer.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client.force_login(officer)
        return client

    return sign_in


def test_admin_places_and_releases_holds(staff, officer, user):
    client = staff("view_legalhold", "add_legalhold", "release_legalhold")
    client.post(f"{URL}add/", {"user": str(user.pk), "data_subject": "", "reason": "court"})
    hold = LegalHold.objects.get()
    assert (hold.user, hold.placed_by, hold.reason) == (user, officer, "court")
    assert AuditLog.objects.get(action="legal_hold_placed").ip_address == "127.0.0.1"
    assert "court" in client.get(f"{URL}{hold.pk}/change/").content.decode()
    assert str(user) in client.get(f"{URL}?state=active").content.decode()
    action = {"action": "release", "_selected_action": [hold.pk]}
    assert "1 done." in client.post(URL, action, follow=True).content.decode()
    hold.refresh_from_db()
    assert hold.released_by == officer
    assert "released already" in client.post(URL, action, follow=True).content.decode()
    assert str(hold) not in client.get(f"{URL}?state=active").content.decode()
    assert str(hold) in client.get(f"{URL}?state=released").content.decode()


def test_admin_shows_what_is_missing(staff):
    page = staff("add_legalhold", "view_legalhold").post(f"{URL}add/", {"reason": "court"})
    assert "Give either a user or a data subject." in page.content.decode()
    assert not LegalHold.objects.exists()


def test_admin_never_changes_or_deletes_holds(staff, officer, rf):
    hold = hold_place(actor=officer, reason="court", data_subject="p1")
    client = staff("view_legalhold", "change_legalhold", "delete_legalhold", "add_legalhold")
    assert client.post(f"{URL}{hold.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{URL}{hold.pk}/change/", {"reason": "other"}).status_code == 403
    action = {"action": "release", "_selected_action": [hold.pk]}
    client.post(URL, action)
    hold.refresh_from_db()
    assert (hold.reason, hold.released_at) == ("court", None)
    assert LegalHoldAdmin.actions == ("release",)


def test_user_exports_holds_that_name_them(officer, user):
    hold_place(actor=officer, reason="court", user=user)
    hold_place(actor=officer, reason="insurance", data_subject="p1")
    section = LegalHoldsSection()
    (about,) = section.export(user)
    assert (about["holds_my_entries"], about["reason"]) == (True, None)
    assert [one["reason"] for one in section.export(officer)] == ["court", "insurance"]


def test_export_keeps_no_cursor_open(officer, monkeypatch):
    hold_place(actor=officer, reason="court", data_subject="p1")
    monkeypatch.setattr(connection, "chunked_cursor", None)
    assert len(list(LegalHoldsSection().export(officer))) == 1


def test_erased_officer_is_removed_from_holds(officer, user):
    hold = hold_place(actor=officer, reason="court", data_subject="p1")
    hold_release(hold, actor=officer)
    erase_user(officer)
    hold.refresh_from_db()
    assert (hold.placed_by, hold.released_by) == (None, None)


@pytest.mark.django_db(transaction=True)
def test_hold_placed_during_a_purge_keeps_entries_or_waits(
    write, administrator, officer, run_concurrently
):
    for _ in range(20):
        write(user=administrator, timestamp=MOMENT)
    list(seal_pending())
    remaining = []

    def purge_or_hold():
        if not purged:
            purged.append(1)
            while entries_purge_chunk(before=CUTOFF, limit=2, using="default"):
                pass
        else:
            hold_place(actor=officer, reason="court", user=administrator)
            remaining.append(old_entries().filter(user=administrator).count())

    purged: list[int] = []
    results = run_concurrently(purge_or_hold, times=4)
    assert not [result for result in results if isinstance(result, Exception)]
    # After the first hold was placed, nothing was purged any more.
    assert set(remaining) == {old_entries().filter(user=administrator).count()}
    assert not problems()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("remove", [erase_user, lambda user: user.delete()])
def test_hold_and_deletion_of_its_user_do_not_deadlock(
    write, django_user_model, officer, run_concurrently, remove
):
    user = django_user_model.objects.create_user(email="x@clinic.example")
    write(user=user, timestamp=MOMENT)

    def place_or_erase():
        if not erased:
            erased.append(1)
            remove(django_user_model.objects.get(pk=user.pk))
        else:
            try:
                hold_place(actor=officer, reason="court", user=user)
            except ValidationError:
                return
            placed.append(1)

    erased: list[int] = []
    placed: list[int] = []
    results = run_concurrently(place_or_erase, times=6)
    assert not [result for result in results if isinstance(result, Exception)]
    assert AuditLog.objects.exclude(pseudonym="").exists() is bool(placed)
    assert purge("--execute")["held"] == len(placed[:1])
    assert not problems()
