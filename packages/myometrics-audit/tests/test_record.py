"""The Python API for sites."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser
from django.db import IntegrityError, connections, models, transaction
from django.test import RequestFactory
from django.test.utils import isolate_apps

from myometrics_audit import audit
from myometrics_audit.log import NewEntry, entry_record
from myometrics_audit.models import AuditLog, Leaf
from myometrics_audit.sealing import LogVerifier
from myometrics_core.events import bus

pytestmark = pytest.mark.django_db


def test_record_stores_actor_action_resource_and_client(user):
    request = RequestFactory().get("/", HTTP_USER_AGENT="Firefox", REMOTE_ADDR="198.51.100.7")
    entry = audit.record(
        actor=user,
        action="report_printed",
        resource=("report", 17),
        details={"pages": 3},
        request=request,
    )
    kept = AuditLog.objects.get()
    assert kept == entry
    assert (kept.user_id, kept.action) == (user.pk, "report_printed")
    assert (kept.resource_type, kept.resource_id) == ("report", "17")
    assert (kept.ip_address, kept.user_agent) == ("198.51.100.7", "Firefox")
    assert kept.details == {"pages": 3}
    assert kept.origin == "server"


def test_record_stores_data_subject_purpose_and_legal_basis():
    why = {"data_subject": "patient-7", "purpose": "TREAT", "legal_basis": "GDPR 9(2)(h)"}
    values: Any = {"actor": None, "action": "a", "resource": ("b", "c")}
    audit.record(**values, **why)
    audit.record_many([audit.entry(**values, **why)])
    audit.record(**values)
    assert list(AuditLog.objects.order_by("id").values(*why)) == [why, why, dict.fromkeys(why, "")]


@pytest.mark.parametrize("origin", ["client", "server", "import"])
def test_record_stores_the_given_origin(origin):
    values: Any = {"actor": None, "action": "a", "resource": ("b", "c"), "origin": origin}
    audit.record(**values)
    audit.record_many(audit.entry(**values) for _ in range(2))
    assert list(AuditLog.objects.values_list("origin", flat=True)) == [origin] * 3


def test_record_accepts_model_instance_and_primary_key(user):
    entry = audit.record(actor=user.pk, action="seen", resource=user)
    assert (entry.resource_type, entry.resource_id) == ("clinic_site.person", str(user.pk))
    assert entry.user_id == user.pk


def test_primary_key_as_other_text_verifies(user):
    """The leaf covers the key as the database returns it."""
    texts = [str(user.pk), user.pk.hex, str(user.pk).upper()]
    for text in texts:
        audit.record(actor=text, action="x", resource=("y", 1))
    audit.record_many(audit.entry(actor=text, action="x", resource=("y", 1)) for text in texts)
    assert set(AuditLog.objects.values_list("user_id", flat=True)) == {user.pk}
    assert list(LogVerifier().problems()) == []


def test_text_that_is_no_primary_key_raises_value_error():
    with pytest.raises(ValueError, match="'x' is no primary key of a user"):
        audit.record(actor="x", action="x", resource=("y", 1))
    assert not AuditLog.objects.exists()


def test_record_truncates_the_resource_of_a_model_with_a_long_name():
    with isolate_apps("recording_site"):
        body = {"__module__": __name__, "Meta": type("Meta", (), {"app_label": "recording_site"})}
        body["id"] = models.TextField(primary_key=True)
        model = type("AttachmentOfAnElectronicHealthRecord", (models.Model,), body)
    entry = audit.record_access(actor=None, data_subject="p1", resource=model("x" * 101))
    assert entry.resource_type == "ecording_site.attachmentofanelectronichealthrecord"
    assert entry.resource_id == "x" * 100
    assert entry.action == "attachmentofanelectronichealthrecord_viewed"


@pytest.mark.parametrize("anonymous", [None, AnonymousUser()])
def test_record_accepts_anonymous_actors(anonymous):
    assert audit.record(actor=anonymous, action="a", resource=("b", "c")).user_id is None


@pytest.mark.parametrize(
    "bad",
    [
        {"action": ""},
        {"action": "x" * 51},
        {"action": "a\x00"},
        {"action": "\ud800"},
        {"action": 5},
        {"resource": ("x" * 51, "1")},
        {"resource": ("upload", "")},
        {"resource": ("upload", "x" * 101)},
        {"origin": "elsewhere"},
        {"data_subject": "x" * 101},
        {"purpose": "a\x00"},
        {"legal_basis": "\ud800"},
        {"legal_basis": 5},
        {"details": {"a": float("nan")}},
        {"details": {"a": "\x00"}},
        {"details": {"a": "\ud800"}},
        {"details": {1: "a"}},
        {"details": {"a": object()}},
        {"details": {"a": "x" * 65536}},
    ],
    ids=lambda bad: str(bad)[:30],
)
def test_record_of_unstorable_values_writes_nothing(bad):
    values = {"actor": None, "action": "a", "resource": ("b", "c"), **bad}
    with pytest.raises((ValueError, TypeError)):
        audit.record(**values)
    assert not AuditLog.objects.exists()
    assert not Leaf.objects.exists()


def test_record_is_part_of_the_callers_transaction():
    with transaction.atomic():
        audit.record(actor=None, action="a", resource=("b", "c"))
        transaction.set_rollback(True)
    assert not AuditLog.objects.exists()


def test_record_many_records_and_publishes_all(user):
    received: list[str] = []
    bus.register_receiver("test", lambda event: received.append(event.resource_id))
    try:
        rows = audit.record_many(
            audit.entry(actor=user, action="archived", resource=("upload", number))
            for number in range(50)
        )
    finally:
        bus._receivers.pop("test")
    assert received == [str(number) for number in range(50)]
    assert {row.pk for row in rows} == set(Leaf.objects.values_list("entry_id", flat=True))


def test_record_many_with_an_invalid_entry_writes_nothing():
    good = audit.entry(actor=None, action="a", resource=("b", "c"))
    bad = audit.entry(actor=None, action="", resource=("b", "c"))
    with pytest.raises(ValueError, match="action"):
        audit.record_many([good, bad])
    assert not AuditLog.objects.exists()


def test_record_many_of_no_entries_writes_nothing():
    assert audit.record_many([]) == []


@pytest.mark.django_db(transaction=True)
def test_record_of_a_deleted_actor_raises_actor_deleted(user):
    deleted_key = user.pk
    user.delete()
    with pytest.raises(audit.ActorDeleted):
        audit.record(actor=deleted_key, action="a", resource=("b", "c"))


def test_record_raises_other_integrity_errors_unchanged(user):
    entry = NewEntry(
        actor_id=user.pk,
        action="a",
        resource_type="b",
        resource_id="c",
        activity_id="host:1",
    )
    entry_record(entry)
    with pytest.raises(IntegrityError):
        entry_record(entry)
    assert AuditLog.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_arecord_works_in_async_code(user):
    async def view():
        try:
            return await audit.arecord(actor=user, action="a", resource=("b", "c"))
        finally:
            await sync_to_async(connections.close_all)()

    assert asyncio.run(view()) == AuditLog.objects.get()


@pytest.mark.celery
def test_record_works_in_a_celery_task(user):
    from celery import shared_task

    @shared_task(name="audit_tests.record")
    def task(actor_id):
        return audit.record(actor=actor_id, action="a", resource=("b", "c")).pk

    entry = AuditLog.objects.get(pk=task.apply(args=[str(user.pk)]).get())
    assert entry.user_id == user.pk


def test_orm_creation_writes_a_leaf(user):
    AuditLog.objects.create(user=user, action="a", resource_type="b", resource_id="c")
    AuditLog.objects.bulk_create(
        [AuditLog(action="a", resource_type="b", resource_id=str(n)) for n in range(3)]
    )
    assert Leaf.objects.count() == 4
    assert set(AuditLog.objects.values_list("origin", flat=True)) == {"server"}
    assert (
        json.dumps(list(AuditLog.objects.values_list("details", flat=True))) == "[{}, {}, {}, {}]"
    )
