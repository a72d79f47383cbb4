"""The mixin for admin pages: recording of what they show and change."""

from __future__ import annotations

import warnings
from functools import partial
from importlib import reload

import audit_test_urls
import pytest
from django.contrib.admin import ModelAdmin, site
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from django.urls import clear_url_caches
from recording_site.admin import PatientAdmin
from recording_site.log import entries
from recording_site.models import Patient, Visit, Ward

from myometrics_audit.models import AuditLog
from myometrics_audit.tracking import RecordedAdminMixin, declarations, recorded

pytestmark = pytest.mark.django_db

PAGE = "/admin/recording_site/patient/"


@pytest.fixture
def root(client, django_user_model):
    """A client of a superuser."""
    user = django_user_model.objects.create_superuser(email="root@clinic.example", password="pw")
    client.force_login(user)
    client.user = user
    return client


@pytest.fixture
def patients():
    return [Patient.objects.create(number=f"P-{n}", name=f"n{n}", phone="1") for n in range(3)]


def form_of(patient, visits=(), **changes):
    values = {
        "number": patient.number,
        "name": patient.name,
        "phone": patient.phone,
        "wards": [ward.pk for ward in patient.wards.all()],
        "visits-TOTAL_FORMS": len(visits),
        "visits-INITIAL_FORMS": sum("id" in visit for visit in visits),
        **changes,
    }
    for number, visit in enumerate(visits):
        for name, value in {"patient": patient.pk, **visit}.items():
            values[f"visits-{number}-{name}"] = value
    return values


def test_change_list_records_each_subject_on_the_page(root, patients):
    assert root.get(PAGE).status_code == 200
    assert sorted(entries()) == [
        ("patient_listed", f"P-{n}", str(patient.pk)) for n, patient in enumerate(patients)
    ]
    entry = AuditLog.objects.first()
    assert (entry.user_id, entry.purpose) == (root.user.pk, "HOPERAT")


def test_change_list_records_only_the_page(root, patients, monkeypatch):
    monkeypatch.setattr(PatientAdmin, "list_per_page", 1)
    root.get(f"{PAGE}?p=2")
    assert [entry[1] for entry in entries()] == ["P-1"]


def test_recording_of_a_change_list_reads_nothing_again(root, patients):
    with CaptureQueriesContext(connection) as recorded:
        root.get(PAGE)
    tables = [query["sql"] for query in recorded if 'FROM "recording_site_patient"' in query["sql"]]
    assert len([sql for sql in tables if "COUNT" not in sql]) == 1


def test_change_form_records_the_object(root, patients):
    assert root.get(f"{PAGE}{patients[0].pk}/change/").status_code == 200
    assert entries() == [("patient_viewed", "P-0", str(patients[0].pk))]


@pytest.mark.parametrize("page", ["history", "delete"])
def test_other_pages_of_an_object_record_it(root, patients, page):
    assert root.get(f"{PAGE}{patients[0].pk}/{page}/").status_code == 200
    assert entries() == [("patient_viewed", "P-0", str(patients[0].pk))]


def test_add_form_and_missing_object_record_nothing(root):
    assert root.get(f"{PAGE}add/").status_code == 200
    assert root.get(f"{PAGE}77/change/").status_code == 302
    assert entries() == []


def test_change_records_fields_and_relations(root, patients):
    ward = Ward.objects.create(name="A")
    form = form_of(patients[0], name="new", phone="2", wards=[ward.pk])
    assert root.post(f"{PAGE}{patients[0].pk}/change/", form).status_code == 302
    assert entries() == [("patient_updated", "P-0", str(patients[0].pk))]
    assert AuditLog.objects.get().details["changes"] == {
        "name": {"from": "n0", "to": "new"},
        "phone": {"masked": True},
        "wards": {"from": [], "to": [ward.pk]},
    }


def test_save_without_changes_records_nothing_but_an_invalid_form_the_view(root, patients):
    root.post(f"{PAGE}{patients[0].pk}/change/", form_of(patients[0]))
    assert entries() == []
    root.post(f"{PAGE}{patients[0].pk}/change/", form_of(patients[0], name=""))
    assert entries() == [("patient_viewed", "P-0", str(patients[0].pk))]


def test_soft_deletion_and_restore_have_their_own_actions(root, patients):
    change = f"{PAGE}{patients[0].pk}/change/"
    when = {"deleted_at_0": "2026-11-29", "deleted_at_1": "12:00:00"}
    root.post(change, form_of(patients[0], **when))
    root.post(change, form_of(patients[0]))
    assert [entry[0] for entry in entries()] == ["patient_soft_deleted", "patient_restored"]


def test_add_records_values_and_inlines(root):
    patient = Patient(number="P-9", name="new")
    form = {**form_of_new(patient), "visits-TOTAL_FORMS": 1, "visits-0-reason": "cough"}
    assert root.post(f"{PAGE}add/", form).status_code == 302
    visit = Visit.objects.get()
    assert sorted(entries()) == [
        ("patient_created", "P-9", str(visit.patient_id)),
        ("visit_created", "P-9", str(visit.pk)),
    ]


def form_of_new(patient):
    return {
        "number": patient.number,
        "name": patient.name,
        "visits-TOTAL_FORMS": 0,
        "visits-INITIAL_FORMS": 0,
    }


def test_inlines_record_created_changed_and_deleted_rows(root, patients):
    kept, gone, same = (
        Visit.objects.create(patient=patients[0], reason=reason) for reason in ("a", "b", "c")
    )
    visits = [
        {"id": kept.pk, "reason": "changed"},
        {"id": gone.pk, "reason": "b", "DELETE": "on"},
        {"id": same.pk, "reason": "c"},
        {"reason": "new"},
    ]
    form = form_of(patients[0], visits)
    assert root.post(f"{PAGE}{patients[0].pk}/change/", form).status_code == 302
    new = Visit.objects.get(reason="new")
    assert sorted(entries()) == [
        ("visit_created", "P-0", str(new.pk)),
        ("visit_deleted", "P-0", str(gone.pk)),
        ("visit_updated", "P-0", str(kept.pk)),
    ]


def test_subject_of_the_page_does_not_apply_to_inlines(root, patients, monkeypatch):
    monkeypatch.setattr(PatientAdmin, "audit_subject", "name")
    form = form_of(patients[0], [{"reason": "new"}], phone="2")
    assert root.post(f"{PAGE}{patients[0].pk}/change/", form).status_code == 302
    assert sorted(entry[:2] for entry in entries()) == [
        ("patient_updated", "n0"),
        ("visit_created", "P-0"),
    ]


def test_page_that_another_page_shows_is_recorded_once(root, patients, monkeypatch):
    def show_first(self, request, extra_context=None):
        return self.changeform_view(request, str(patients[0].pk))

    monkeypatch.setattr(ModelAdmin, "changelist_view", show_first)
    assert root.get(PAGE).status_code == 200
    assert entries() == [("patient_viewed", "P-0", str(patients[0].pk))]


def test_delete_records_what_is_deleted_with_the_object(root, patients):
    visit = Visit.objects.create(patient=patients[0], reason="a")
    key = str(patients[0].pk)
    assert root.post(f"{PAGE}{key}/delete/", {"post": "yes"}).status_code == 302
    assert sorted(entries()) == [
        ("patient_deleted", "P-0", key),
        ("visit_deleted", "P-0", str(visit.pk)),
    ]


def action(name, patients, **values):
    return {"action": name, "_selected_action": [patient.pk for patient in patients], **values}


def test_deletion_of_selected_objects_records_each(root, patients):
    visit = Visit.objects.create(patient=patients[0], reason="a")
    chosen = patients[:2]
    keys = [str(patient.pk) for patient in chosen]
    assert root.post(PAGE, action("delete_selected", chosen, post="yes")).status_code == 302
    assert sorted(entries()) == [
        ("patient_deleted", "P-0", keys[0]),
        ("patient_deleted", "P-1", keys[1]),
        ("visit_deleted", "P-0", str(visit.pk)),
    ]


def test_deletion_of_selected_objects_makes_a_constant_number_of_queries(root):
    ContentType.objects.get_for_model(Patient)  # read once: other tests may have emptied the cache

    def count(number):
        chosen = [Patient.objects.create(number=f"{number}-{n}", name="x") for n in range(number)]
        with CaptureQueriesContext(connection) as queries:
            root.post(PAGE, action("delete_selected", chosen, post="yes"))
        # The admin itself writes a LogEntry for each before Django 5.1.
        return sum("admin_log" not in query["sql"] for query in queries)

    assert count(3) == count(30)


def test_confirmation_page_records_the_selected_objects(root, patients):
    assert root.post(PAGE, action("delete_selected", patients[:1])).status_code == 200
    assert entries() == [("patient_listed", "P-0", str(patients[0].pk))]


def test_action_that_changes_objects_records_each(root, patients):
    assert root.post(PAGE, action("rename", patients[:2])).status_code == 302
    assert [entry[:2] for entry in entries()] == [
        ("patient_updated", "P-0"),
        ("patient_updated", "P-1"),
    ] or [entry[:2] for entry in entries()] == [
        ("patient_updated", "P-1"),
        ("patient_updated", "P-0"),
    ]


def test_action_that_returns_a_file_records_the_selected_objects(root, patients):
    assert root.post(PAGE, action("export", patients[:2])).content
    assert sorted(entry[:2] for entry in entries()) == [
        ("patient_listed", "P-0"),
        ("patient_listed", "P-1"),
    ]
    assert AuditLog.objects.first().details == {"admin_action": "export"}


def export_as(kind, admin, request, queryset):
    return HttpResponse(kind)


def test_action_that_is_a_partial_function_is_recorded(root, patients, monkeypatch):
    monkeypatch.setattr(PatientAdmin, "export_csv", partial(export_as, "csv"), raising=False)
    monkeypatch.setattr(PatientAdmin, "actions", ["export_csv"])
    response = root.post(PAGE, action("export_csv", patients[:1]))
    assert (response.status_code, response.content) == (200, b"csv")
    assert AuditLog.objects.get().details == {"admin_action": "export_csv"}


@pytest.mark.parametrize("name", ["export", "export_file", "export_stream"])
def test_action_on_all_pages_that_returns_a_file_records_all_objects(
    root, patients, monkeypatch, name
):
    monkeypatch.setattr(PatientAdmin, "list_per_page", 1)
    response = root.post(PAGE, action(name, patients[:1], select_across="1"))
    content = response.getvalue() if hasattr(response, "getvalue") else response.content
    assert sorted(content.decode().split()) == ["n0", "n1", "n2"]
    assert sorted(entry[:2] for entry in entries()) == [
        ("patient_listed", f"P-{number}") for number in range(3)
    ]


def test_actions_are_those_of_the_page_without_the_mixin(rf, root):
    """Django warns if ``get_actions`` can't tell the pages of an object from the list."""
    request = rf.get(PAGE)
    request.user = root.user
    admins = [kind(Patient, site) for kind in (PatientAdmin, WithoutMixin)]
    names = [set(admin.get_actions(request)) for admin in admins]
    assert names[0] == names[1] == {"delete_selected", *PatientAdmin.actions}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        admins[0].get_action_choices(request)
        assert root.get(PAGE).status_code == 200


class WithoutMixin(ModelAdmin):
    actions = PatientAdmin.actions
    rename = PatientAdmin.rename
    export = PatientAdmin.export
    export_file = PatientAdmin.export_file
    export_stream = PatientAdmin.export_stream


def test_editable_list_records_changed_rows(root, patients):
    rows = Patient.objects.order_by("-pk")
    form = {"form-TOTAL_FORMS": 3, "form-INITIAL_FORMS": 3, "_save": "Save"}
    for number, patient in enumerate(rows):
        form[f"form-{number}-id"] = patient.pk
        form[f"form-{number}-name"] = "new" if patient.number == "P-1" else patient.name
    assert root.post(PAGE, form).status_code == 302
    assert entries() == [("patient_updated", "P-1", str(patients[1].pk))]
    changes = AuditLog.objects.get().details["changes"]
    assert changes == {"name": {"from": "n1", "to": "new"}}


def test_editable_list_and_action_record_both_subjects_of_a_moved_row(root, patients, monkeypatch):
    monkeypatch.setattr(PatientAdmin, "audit_subject", "name")
    only = Patient.objects.exclude(pk__in=[patient.pk for patient in patients[1:]])
    monkeypatch.setattr(PatientAdmin, "get_queryset", lambda self, request: only.all())
    form = {"form-TOTAL_FORMS": 1, "form-INITIAL_FORMS": 1, "_save": "Save"}
    form |= {"form-0-id": patients[0].pk, "form-0-name": "new"}
    assert root.post(PAGE, form).status_code == 302
    assert root.post(PAGE, action("rename", patients[:1])).status_code == 302
    assert [entry[:2] for entry in entries()] == [
        ("patient_updated", "n0"),
        ("patient_updated", "new"),
        ("patient_updated", "new"),
        ("patient_updated", "renamed"),
    ]


def test_change_page_records_both_subjects_of_a_moved_row(root, patients, monkeypatch):
    monkeypatch.setattr(PatientAdmin, "audit_subject", "name")
    root.post(f"{PAGE}{patients[0].pk}/change/", form_of(patients[0], name="new"))
    assert [entry[:2] for entry in entries()] == [
        ("patient_updated", "n0"),
        ("patient_updated", "new"),
    ]


def test_denied_page_is_recorded(client, django_user_model, patients):
    clerk = django_user_model.objects.create_user(email="c@clinic.example", is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="add_patient"))
    client.force_login(clerk)
    assert client.get(f"{PAGE}{patients[0].pk}/change/").status_code == 403
    assert client.get(PAGE).status_code == 403
    assert entries() == [
        ("patient_access_denied", "P-0", str(patients[0].pk)),
        ("patient_access_denied", "", "list"),
    ]


def test_password_page_records_the_change_without_its_values(root, django_user_model, monkeypatch):
    models = dict(declarations._recorded_models)
    monkeypatch.setattr(declarations, "_recorded_models", models)
    recorded(data_subject="email")(django_user_model)
    page = f"/admin/clinic_site/person/{root.user.pk}/password/"
    password = "correct-horse-battery"
    bases, options = (RecordedAdminMixin, UserAdmin), {"ordering": ("email",)}
    site.register(django_user_model, type("PersonAdmin", bases, options))
    try:
        clear_url_caches()
        reload(audit_test_urls)
        assert root.get(page).status_code == 200
        form = {"password1": password, "password2": password, "usable_password": "true"}
        assert root.post(page, form).status_code == 302
    finally:
        site.unregister(django_user_model)
        clear_url_caches()
        reload(audit_test_urls)
    key = str(root.user.pk)
    assert entries() == [
        ("person_viewed", root.user.email, key),
        ("person_updated", root.user.email, key),
    ]
    changes = AuditLog.objects.get(action="person_updated").details["changes"]
    assert changes == {"password": {"masked": True}}


@pytest.mark.django_db(transaction=True)
def test_access_is_denied_to_a_user_who_was_just_deleted(rf, django_user_model):
    request = rf.get(PAGE)
    request.user = django_user_model.objects.create_user(email="c@clinic.example", is_staff=True)
    django_user_model.objects.all().delete()
    with pytest.raises(PermissionDenied):
        PatientAdmin(Patient, site).changelist_view(request)
    assert entries() == []


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "PATCH", "DELETE", "BREW"])
@pytest.mark.parametrize("page", ["", "add/", "{}/change/", "{}/delete/", "{}/history/"])
def test_other_methods_are_not_allowed(root, patients, method, page):
    response = root.generic(method, PAGE + page.format(patients[0].pk))
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, HEAD, POST"
    assert response.content == b""
    assert Patient.objects.count() == 3


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_denied_page_is_recorded_for_each_method(client, django_user_model, patients, method):
    clerk = django_user_model.objects.create_user(email="c@clinic.example", is_staff=True)
    client.force_login(clerk)
    for page in ["change", "delete", "history"]:
        assert client.generic(method, f"{PAGE}{patients[0].pk}/{page}/").status_code == 403
    assert [entry[::2] for entry in entries()] == [
        ("patient_access_denied", str(patients[0].pk))
    ] * 3


def test_denied_list_with_a_context_is_recorded_as_a_list(rf, django_user_model):
    request = rf.get(PAGE)
    request.user = django_user_model.objects.create_user(email="c@clinic.example", is_staff=True)
    with pytest.raises(PermissionDenied):
        PatientAdmin(Patient, site).changelist_view(request, {"title": "Our patients"})
    assert entries() == [("patient_access_denied", "", "list")]


def test_head_request_records_nothing(root, patients):
    assert root.head(PAGE).status_code == 200
    assert entries() == []


def test_change_that_fails_is_rolled_back_and_not_recorded(root, patients, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no")

    monkeypatch.setattr(PatientAdmin, "log_change", fail)
    with pytest.raises(RuntimeError):
        root.post(f"{PAGE}{patients[0].pk}/change/", form_of(patients[0], name="new"))
    assert entries() == []
    assert not Patient.objects.filter(name="new").exists()


def test_missing_purpose_is_none(root, patients, monkeypatch):
    for name in ["purpose", "legal_basis"]:
        monkeypatch.setattr(PatientAdmin, f"get_audit_{name}", lambda admin, request: None)
    assert root.get(PAGE).status_code == 200
    assert AuditLog.objects.filter(purpose="", legal_basis="").count() == 3


def test_purpose_that_can_not_be_stored_is_a_bad_request(root, patients, monkeypatch):
    monkeypatch.setattr(PatientAdmin, "audit_purpose", "x" * 101)
    assert root.get(PAGE).status_code == 400
    assert entries() == []
