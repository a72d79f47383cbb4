"""``recorded_delete`` records the rows that a deletion deletes or changes, by any relation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import connection, models
from django.test.utils import CaptureQueriesContext, isolate_apps

from myometrics_audit.models import AuditLog
from myometrics_audit.tracking import declarations, recorded, recorded_delete

pytestmark = pytest.mark.django_db

# Django 6.1 and later leave these to the database.
DB_CASCADE = getattr(models, "DB_CASCADE", models.CASCADE)
DB_SET_NULL = getattr(models, "DB_SET_NULL", models.SET_NULL)


@pytest.fixture(scope="module")
def host(django_db_setup, django_db_blocker):
    """A site's models around ``Ward``."""
    with isolate_apps("django.contrib.auth", "django.contrib.contenttypes"):

        class Note(models.Model):
            content_type = models.ForeignKey(
                ContentType, models.CASCADE, related_name="+", db_constraint=False
            )
            object_id = models.BigIntegerField()
            about = GenericForeignKey()

            class Meta:
                app_label = "auth"

        class Ward(models.Model):
            code = models.CharField(max_length=20, unique=True)
            parent = models.ForeignKey("self", models.CASCADE, null=True)
            notes = GenericRelation(Note)

            class Meta:
                app_label = "auth"

        class ClosedWard(Ward):
            class Meta:
                app_label = "auth"
                proxy = True

        class Bed(models.Model):
            # In this order, so that a bed is met by the key that keeps it first.
            former_ward = models.ForeignKey(
                Ward, models.SET_NULL, null=True, related_name="former_beds"
            )
            ward = models.ForeignKey(Ward, models.CASCADE, null=True, to_field="code")

            class Meta:
                app_label = "auth"

        class HeatedBed(Bed):
            degrees = models.IntegerField(default=37)

            class Meta:
                app_label = "auth"

        class NumberedBed(Bed):
            number = models.AutoField(primary_key=True)
            bed_ptr = models.OneToOneField(Bed, models.CASCADE, parent_link=True)

            class Meta:
                app_label = "auth"

        class Sheet(models.Model):
            bed = models.ForeignKey(Bed, models.CASCADE)

            class Meta:
                app_label = "auth"

        class Gate(models.Model):
            ward = models.ForeignKey(Ward, DB_CASCADE, null=True, related_name="gates")
            neighbour = models.ForeignKey(Ward, DB_SET_NULL, null=True, related_name="openings")

            class Meta:
                app_label = "auth"

        class Key(models.Model):
            gate = models.ForeignKey(Gate, DB_CASCADE)

            class Meta:
                app_label = "auth"

        tables = [Note, Ward, Bed, HeatedBed, NumberedBed, Sheet, Gate, Key]
        with django_db_blocker.unblock(), connection.schema_editor() as editor:
            for table in tables:
                editor.create_model(table)
        yield SimpleNamespace(**{table.__name__: table for table in (*tables, ClosedWard)})
        with django_db_blocker.unblock(), connection.schema_editor() as editor:
            for table in reversed(tables):
                editor.delete_model(table)


@pytest.fixture(autouse=True)
def record(monkeypatch):
    """Restores the registry of recordings."""
    models = dict(declarations._recorded_models)
    monkeypatch.setattr(declarations, "_recorded_models", models)
    return recorded()


def entries():
    return sorted(AuditLog.objects.values_list("action", "resource_id"))


def test_row_kept_by_one_key_and_deleted_by_another_is_followed(host, record):
    record(host.Ward)
    record(host.Sheet)
    ward = host.Ward.objects.create(code="a")
    bed = host.Bed.objects.create(former_ward=ward, ward=ward)
    sheet = host.Sheet.objects.create(bed=bed)
    expected = [("sheet_deleted", str(sheet.pk)), ("ward_deleted", str(ward.pk))]
    recorded_delete(ward, actor=None)
    assert entries() == expected


def test_deletion_through_a_key_to_another_field_is_recorded(host, record):
    record(host.Ward)
    record(host.Bed)
    ward, other = (host.Ward.objects.create(code=code) for code in "ab")
    bed = host.Bed.objects.create(former_ward=other, ward=ward)
    changed = host.Bed.objects.create(former_ward=ward, ward=other)
    expected = [
        ("bed_deleted", str(bed.pk)),
        ("bed_updated", str(changed.pk)),
        ("ward_deleted", str(ward.pk)),
    ]
    recorded_delete(ward, actor=None)
    assert entries() == expected


def test_deletion_of_a_subclass_with_its_parent_is_recorded(host, record):
    record(host.Ward)
    record(host.HeatedBed)
    ward = host.Ward.objects.create(code="a")
    bed = host.HeatedBed.objects.create(ward=ward)
    expected = [("heatedbed_deleted", str(bed.pk)), ("ward_deleted", str(ward.pk))]
    recorded_delete(ward, actor=None)
    assert entries() == expected


def test_deletion_of_subclass_with_own_key_follows_parent_row(host, record):
    record(host.NumberedBed)
    record(host.Sheet)
    other = host.Bed.objects.create()
    bed = host.NumberedBed.objects.create(number=other.pk)
    sheet = host.Sheet.objects.create(bed_id=bed.id)
    host.Sheet.objects.create(bed=other)
    expected = [("numberedbed_deleted", str(bed.pk)), ("sheet_deleted", str(sheet.pk))]
    recorded_delete(bed, actor=None)
    assert entries() == expected


def test_deletion_of_self_referring_rows_is_recorded(host, record):
    record(host.Ward)
    first = host.Ward.objects.create(code="a")
    second = host.Ward.objects.create(code="b", parent=first)
    first.parent = second
    first.save()
    expected = sorted(("ward_deleted", str(ward.pk)) for ward in (first, second))
    recorded_delete(first, actor=None)
    assert entries() == expected


def test_deletion_of_generic_relations_is_recorded(host, record):
    record(host.Ward)
    record(host.Note)
    ward, other = (host.Ward.objects.create(code=code) for code in "ab")
    kind = ContentType.objects.get_for_model(host.Ward)
    note, _ = (
        host.Note.objects.create(content_type_id=kind.pk, object_id=about.pk)
        for about in (ward, other)
    )
    expected = [("note_deleted", str(note.pk)), ("ward_deleted", str(ward.pk))]
    recorded_delete(ward, actor=None)
    assert entries() == expected


def test_changes_by_the_database_are_recorded(host, record):
    for model in (host.Ward, host.Gate, host.Key):
        record(model)
    ward = host.Ward.objects.create(code="a")
    gate, opening = (
        host.Gate.objects.create(ward=ward),
        host.Gate.objects.create(neighbour=ward),
    )
    key = host.Key.objects.create(gate=gate)
    expected = [
        ("gate_deleted", str(gate.pk)),
        ("gate_updated", str(opening.pk)),
        ("key_deleted", str(key.pk)),
        ("ward_deleted", str(ward.pk)),
    ]
    recorded_delete(ward, actor=None)
    assert entries() == expected


def test_rows_kept_by_the_database_are_not_followed(host, record):
    for model in (host.Ward, host.Key):
        record(model)
    ward = host.Ward.objects.create(code="a")
    key = str(ward.pk)
    host.Key.objects.create(gate=host.Gate.objects.create(neighbour=ward))
    with CaptureQueriesContext(connection) as queries:
        recorded_delete(ward, actor=None)
    table = f'"{host.Key._meta.db_table}"'
    assert not any(table in query["sql"] for query in queries if "SELECT" in query["sql"])
    assert entries() == [("ward_deleted", key)]


def test_deletion_of_a_proxy_is_recorded_under_its_name(host, record):
    record(host.ClosedWard)
    ward = host.ClosedWard.objects.create(code="a")
    key = str(ward.pk)
    recorded_delete(ward, actor=None)
    assert entries() == [("closedward_deleted", key)]


def test_soft_deletion_is_recorded_as_a_change(host, record):
    record(host.Ward)
    record(host.Bed)
    ward = host.Ward.objects.create(code="a")
    host.Bed.objects.create(ward=ward)
    ward.delete = lambda: host.Ward.objects.filter(pk=ward.pk).update(parent=ward)
    recorded_delete(ward, actor=None)
    assert entries() == [("ward_updated", str(ward.pk))]
