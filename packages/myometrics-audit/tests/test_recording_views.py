"""The mixin for generic views: what an API shows and changes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from recording_site.log import entries
from recording_site.models import Invoice, Letter, Patient, Visit, Ward
from recording_site.views import LetterViewSet, PatientViewSet
from rest_framework.permissions import IsAdminUser

from myometrics_audit.models import AuditLog, Leaf

pytestmark = pytest.mark.django_db


@pytest.fixture
def api(client_of, user):
    return client_of(user)


@pytest.fixture
def patient():
    return Patient.objects.create(number="P-1", name="Pat", phone="123")


@pytest.fixture
def visits(patient):
    other = Patient.objects.create(number="P-2", name="Kim")
    return [
        Visit.objects.create(patient=one, reason=reason)
        for one, reason in [(patient, "cough"), (other, "fever"), (patient, "control")]
    ]


def test_retrieve_records_actor_subject_purpose_and_legal_basis(api, patient, user):
    api.get(f"/clinic/patients/{patient.pk}/", HTTP_USER_AGENT="Firefox")
    entry = AuditLog.objects.get()
    assert (entry.action, entry.resource_id) == ("patient_viewed", str(patient.pk))
    assert (entry.resource_type, entry.user_id) == ("recording_site.patient", user.pk)
    assert (entry.data_subject, entry.purpose) == ("P-1", "TREAT")
    assert (entry.legal_basis, entry.user_agent) == ("GDPR 9(2)(h)", "Firefox")


def test_list_records_the_subjects_on_the_page_only(api):
    Patient.objects.bulk_create(Patient(number=f"P-{n:03}", name="x") for n in range(130))
    api.get("/clinic/patients/?page=2")
    assert [subject for _, subject, _ in entries()] == [f"P-{n}" for n in range(100, 130)]
    assert {action for action, _, _ in entries()} == {"patient_listed"}


@pytest.mark.django_db(transaction=True)
def test_list_of_100_subjects_costs_one_statement_on_postgresql(api):
    Patient.objects.bulk_create(Patient(number=f"P-{n:03}", name="x") for n in range(100))
    with CaptureQueriesContext(connection) as queries:
        assert api.get("/clinic/patients/").status_code == 200
    writes = [query["sql"] for query in queries if not query["sql"].startswith("SELECT")]
    assert len(queries) - len(writes) == 3  # the count, the page, and its wards
    assert AuditLog.objects.count() == Leaf.objects.count() == 100
    if connection.vendor == "postgresql":
        assert len(writes) == 1
    else:
        # SQLite can't write two tables at once: BEGIN, both in batches of its variables, COMMIT.
        assert len(writes) <= 6


def test_list_records_each_subject_once_with_all_rows(api, visits, patient):
    api.get("/clinic/visits/")
    assert entries() == [
        ("visit_listed", "P-1", str(visits[0].pk)),
        ("visit_listed", "P-2", str(visits[1].pk)),
    ]
    first = AuditLog.objects.order_by("id").first()
    assert first.details == {"ids": [visits[0].pk, visits[2].pk], "count": 2}


def test_list_reads_subjects_of_a_path_by_one_query(api, visits):
    with CaptureQueriesContext(connection) as queries:
        api.get("/clinic/visits/")
    assert sum(query["sql"].startswith("SELECT") for query in queries) == 2


def test_create_records_values_of_a_view_that_overrides_perform_create(api, user):
    ward = Ward.objects.create(name="A")
    body = {"number": "P-9", "name": "New", "phone": "1", "wards": [ward.pk]}
    assert api.post("/clinic/patients/", body, format="json").status_code == 201
    entry = AuditLog.objects.get()
    assert (entry.action, entry.data_subject, entry.purpose) == ("patient_created", "P-9", "TREAT")
    assert entry.details["values"]["owner"] == str(user.pk)
    assert entry.details["values"]["phone"] == {"masked": True}
    assert entry.details["values"]["wards"] == [ward.pk]


def test_create_with_a_key_as_text_is_recorded(api, patient):
    body = {"patient": patient.pk, "text": "Dear Pat"}
    response = api.post("/clinic/letters/", body, format="json")
    assert response.status_code == 201
    assert entries() == [("letter_created", "P-1", response.json()["id"])]


@pytest.mark.parametrize("method", ["put", "patch"])
def test_change_that_moves_a_row_is_recorded_for_both_subjects(api, patient, method):
    other = Patient.objects.create(number="P-2", name="Kim")
    letter = Letter.objects.create(patient=patient, text="a")
    body = {"patient": other.pk, "text": "a"}
    getattr(api, method)(f"/clinic/letters/{letter.pk}/", body, format="json")
    assert entries() == [
        ("letter_updated", "P-1", str(letter.pk)),
        ("letter_updated", "P-2", str(letter.pk)),
    ]


@pytest.mark.parametrize("options", ["path", "method"])
def test_subject_of_the_view_is_found_before_and_after_a_change(api, patient, monkeypatch, options):
    other = Patient.objects.create(number="P-2", name="Kim")
    letter = Letter.objects.create(patient=patient, text="a")
    if options == "path":
        monkeypatch.setattr(LetterViewSet, "audit_subject", "patient__name")
    else:
        by_name = lambda view, letter: letter.patient.name  # noqa: E731
        monkeypatch.setattr(LetterViewSet, "get_audit_subject", by_name)
    path = f"/clinic/letters/{letter.pk}/"
    api.patch(path, {"patient": other.pk}, format="json")
    api.patch(path, {"text": "b"}, format="json")
    api.delete(path)
    assert [entry[:2] for entry in entries()] == [
        ("letter_updated", "Pat"),
        ("letter_updated", "Kim"),
        ("letter_updated", "Kim"),
        ("letter_deleted", "Kim"),
    ]


def test_update_records_changed_fields_and_relations(api, patient):
    first, second = (Ward.objects.create(name=name) for name in "AB")
    patient.wards.set([first])
    body = {"name": "Patricia", "phone": "456", "wards": [second.pk]}
    api.patch(f"/clinic/patients/{patient.pk}/", body, format="json")
    assert entries() == [("patient_updated", "P-1", str(patient.pk))]
    assert AuditLog.objects.get().details["changes"] == {
        "name": {"from": "Pat", "to": "Patricia"},
        "phone": {"masked": True},
        "wards": {"from": [first.pk], "to": [second.pk]},
    }


def test_update_without_changes_is_recorded_as_viewed(api, patient):
    assert api.patch(f"/clinic/patients/{patient.pk}/", {}, format="json").status_code == 200
    assert entries() == [("patient_viewed", "P-1", str(patient.pk))]


def test_destroy_records_the_object_and_what_is_deleted_with_it(api, visits, patient):
    key = str(patient.pk)
    assert api.delete(f"/clinic/patients/{key}/").status_code == 204
    assert sorted(entries()) == [
        ("patient_deleted", "P-1", key),
        ("visit_deleted", "P-1", str(visits[0].pk)),
        ("visit_deleted", "P-1", str(visits[2].pk)),
    ]


def test_custom_action_records_soft_deletion_and_restore(api, patient):
    api.post(f"/clinic/patients/{patient.pk}/archive/")
    assert entries() == [("patient_soft_deleted", "P-1", str(patient.pk))]


def test_custom_action_without_serializer_records_the_object(api, patient):
    api.get(f"/clinic/patients/{patient.pk}/letter/")
    assert entries() == [("patient_viewed", "P-1", str(patient.pk))]


def test_bulk_update_records_each_row(api, visits):
    rows = [{"number": "P-1", "name": "One"}, {"number": "P-2", "name": "Two"}]
    assert api.put("/clinic/patients/bulk/", rows, format="json").status_code == 200
    assert [entry[:2] for entry in entries()] == [
        ("patient_updated", "P-1"),
        ("patient_updated", "P-2"),
    ]


def test_unchanged_row_of_a_bulk_update_is_recorded_as_viewed(api, visits):
    rows = [{"number": "P-1", "name": "One"}, {"number": "P-2", "name": "Kim"}]
    assert api.put("/clinic/patients/bulk/", rows, format="json").status_code == 200
    assert [entry[:2] for entry in entries()] == [
        ("patient_updated", "P-1"),
        ("patient_viewed", "P-2"),
    ]


def test_nested_write_is_recorded_by_its_own_call(api):
    body = {"number": "P-9", "name": "New", "first_visit": {"reason": "cough"}}
    assert api.post("/clinic/patients/", body, format="json").status_code == 201
    assert sorted(entry[:2] for entry in entries()) == [
        ("patient_created", "P-9"),
        ("visit_created", "P-9"),
    ]


def test_handler_of_another_method_is_recorded(api, visits):
    assert len(api.generic("TRACE", "/clinic/visits/").json()) == 3
    assert [entry[:2] for entry in entries()] == [("visit_listed", "P-1"), ("visit_listed", "P-2")]


@pytest.mark.parametrize("method", ["head", "options"])
def test_head_and_options_record_nothing(api, patient, method):
    assert getattr(api, method)(f"/clinic/patients/{patient.pk}/").status_code == 200
    assert getattr(api, method)("/clinic/patients/").status_code == 200
    assert entries() == []


@pytest.mark.parametrize(
    ("method", "path"), [("get", "77/"), ("put", "77/"), ("patch", "77/"), ("delete", "77/")]
)
def test_missing_object_records_nothing(api, method, path):
    assert getattr(api, method)(f"/clinic/patients/{path}").status_code == 404
    assert entries() == []


def test_invalid_body_records_nothing(api, patient):
    body = {"name": ""}
    assert api.patch(f"/clinic/patients/{patient.pk}/", body, format="json").status_code == 400
    assert entries() == []


def test_failed_action_is_rolled_back_and_records_nothing(api, patient):
    assert api.post(f"/clinic/patients/{patient.pk}/fail/", {}, format="json").status_code == 400
    patient.refresh_from_db()
    assert patient.name == "Pat"
    assert entries() == []


def test_change_before_an_error_response_is_recorded(api, patient):
    body = {"how": "response"}
    assert api.post(f"/clinic/patients/{patient.pk}/fail/", body, format="json").status_code == 409
    assert entries() == [("patient_updated", "P-1", str(patient.pk))]


def test_purpose_comes_from_a_header_that_the_site_chooses(api, patient):
    api.get(f"/clinic/patients/{patient.pk}/", HTTP_X_PURPOSE="HRESCH")
    assert AuditLog.objects.get().purpose == "HRESCH"


def test_purpose_that_is_too_long_is_a_bad_request(api, patient):
    response = api.get(f"/clinic/patients/{patient.pk}/", HTTP_X_PURPOSE="x" * 101)
    assert response.status_code == 400
    assert entries() == []


def make_letters(patient):
    other = Patient.objects.create(number="P-2", name="Kim")
    return [Letter.objects.create(patient=one, text=one.name) for one in (patient, other)]


@pytest.mark.parametrize("by_name", ["", "&by_name"])
@pytest.mark.parametrize("kind", ["iterator", "generator", "values", "named"])
def test_rows_of_any_kind_are_recorded(api, patient, caplog, kind, by_name):
    make_letters(patient)
    response = api.get(f"/clinic/letters/rows/?kind={kind}{by_name}")
    assert sorted(row["text"] for row in response.json()) == ["Kim", "Pat"]
    assert sorted(entry[:2] for entry in entries()) == [
        ("letter_listed", "P-1"),
        ("letter_listed", "P-2"),
    ]
    assert caplog.text == ""


def test_single_row_of_values_is_recorded(api, patient):
    letters = make_letters(patient)
    assert api.get("/clinic/letters/first/").json() == {"text": "Kim"}
    assert entries() == [("letter_viewed", "P-2", str(letters[1].pk))]


@pytest.mark.parametrize("kind", ["no key", "other"])
def test_rows_without_a_key_of_the_model_log_a_warning(api, patient, caplog, kind):
    make_letters(patient)
    assert len(api.get(f"/clinic/letters/rows/?kind={kind}").json()) == 2
    assert entries() == []
    assert "LetterViewSet shows rows without a primary key" in caplog.text


def test_serializer_without_rows_records_nothing(api, caplog):
    assert api.get("/clinic/letters/rows/?kind=nothing").status_code == 200
    assert entries() == []
    assert caplog.text == ""


def test_row_that_a_serializer_finds_is_recorded_as_viewed(api, patient):
    body = {"number": "P-1", "name": "x"}
    assert api.post("/clinic/find-or-create/", body, format="json").json()["name"] == "Pat"
    assert entries() == [("patient_viewed", "P-1", str(patient.pk))]


def test_row_that_a_serializer_records_itself_is_created(api):
    body = {"number": "P-1", "name": "x"}
    assert api.post("/clinic/find-or-create/", body, format="json").status_code == 201
    assert "patient_created" in {entry[0] for entry in entries()}


def test_missing_purpose_is_none(api, patient, monkeypatch):
    for name in ["purpose", "legal_basis"]:
        method = lambda view, request: request.headers.get("X-Missing")  # noqa: E731
        monkeypatch.setattr(PatientViewSet, f"get_audit_{name}", method)
    path = f"/clinic/patients/{patient.pk}/"
    assert api.get(path).status_code == 200
    assert api.patch(path, {"name": "new"}, format="json").status_code == 200
    Patient.objects.update(owner="someone")
    assert api.get(path).status_code == 403
    assert [entry[0] for entry in entries()] == [
        "patient_viewed",
        "patient_updated",
        "patient_access_denied",
    ]
    assert not AuditLog.objects.exclude(purpose="", legal_basis="").exists()


def test_purpose_that_is_no_text_is_a_400_and_denied_access_is_recorded(api, patient, monkeypatch):
    monkeypatch.setattr(PatientViewSet, "get_audit_purpose", lambda view, request: 7)
    path = f"/clinic/patients/{patient.pk}/"
    assert api.get(path).status_code == 400
    monkeypatch.setattr(PatientViewSet, "permission_classes", [IsAdminUser])
    assert api.get(path).status_code == 403
    assert [entry[0] for entry in entries()] == ["patient_access_denied"]


def test_anonymous_reads_are_recorded_without_user(client_of):
    invoice = Invoice.objects.create(number="1", subject="7")
    client_of(None).get(f"/clinic/invoices/{invoice.pk}/")
    assert AuditLog.objects.get().user_id is None
    assert entries() == [("invoice_viewed", "case-7", str(invoice.pk))]


def test_objects_without_subject_have_an_entry_each(api):
    for subject in ["", "", "7"]:
        Invoice.objects.create(number="1", subject=subject)
    api.get("/clinic/invoices/")
    assert [subject for _, subject, _ in entries()] == ["", "", "case-7"]


def test_changes_of_an_undeclared_model_are_refused(api):
    with pytest.raises(LookupError, match="Invoice"):
        api.post("/clinic/invoices/", {"number": "1"}, format="json")
    assert not Invoice.objects.exists()


def test_empty_list_records_nothing(api):
    assert api.get("/clinic/patients/").status_code == 200
    assert entries() == []


def test_denied_object_is_recorded_with_its_subject(api, patient):
    Patient.objects.update(owner="someone")
    assert api.get(f"/clinic/patients/{patient.pk}/").status_code == 403
    assert entries() == [("patient_access_denied", "P-1", str(patient.pk))]
    assert AuditLog.objects.get().details == {"method": "GET"}


def test_permission_error_of_a_handler_is_recorded_without_its_change(api, patient):
    body = {"how": "permission"}
    assert api.post(f"/clinic/patients/{patient.pk}/fail/", body, format="json").status_code == 403
    assert entries() == [("patient_access_denied", "P-1", str(patient.pk))]
    patient.refresh_from_db()
    assert patient.name == "Pat"


def test_anonymous_denied_request_is_not_recorded(client_of, patient):
    assert client_of(None).get(f"/clinic/patients/{patient.pk}/").status_code in (401, 403)
    assert entries() == []


def _signed_in(principal):
    principal.is_authenticated = True
    return principal


@pytest.mark.parametrize("key", ["of a user", "scanner-1", None])
def test_principal_that_is_no_user_is_recorded_without_a_user(client_of, user, patient, key):
    # Like a site's model of patients' accounts, with a key that is also that of a user.
    row = _signed_in(Letter(pk=user.pk))
    principal = row if key == "of a user" else _signed_in(SimpleNamespace(pk=key))
    api = client_of(principal)
    assert api.get(f"/clinic/patients/{patient.pk}/").status_code == 200
    assert api.get("/clinic/patients/").status_code == 200
    assert [entry.action for entry in AuditLog.objects.order_by("id")] == [
        "patient_viewed",
        "patient_listed",
    ]
    assert not AuditLog.objects.exclude(user=None).exists()
    Patient.objects.update(owner="someone")
    assert api.get(f"/clinic/patients/{patient.pk}/").status_code == 403
    assert AuditLog.objects.count() == 2


def test_token_with_the_id_of_a_user_as_text_is_recorded_with_the_user(client_of, user, patient):
    token_user = _signed_in(SimpleNamespace(pk=str(user.pk)))
    assert client_of(token_user).get(f"/clinic/patients/{patient.pk}/").status_code == 200
    assert AuditLog.objects.get().user == user


@pytest.mark.django_db(transaction=True)
def test_concurrent_updates_are_recorded_as_one_history(client_of, user, patient, run_concurrently):
    names = iter([f"name {number}" for number in range(8)])  # threads can't share a generator

    def rename():
        body = {"name": next(names)}
        path = f"/clinic/patients/{patient.pk}/"
        return client_of(user).patch(path, body, format="json").status_code

    assert run_concurrently(rename, times=8) == [200] * 8
    changes = [entry.details["changes"]["name"] for entry in AuditLog.objects.order_by("id")]
    patient.refresh_from_db()
    shown = ["Pat", *(change["to"] for change in changes)]
    assert [change["from"] for change in changes] == shown[:-1]
    assert shown[-1] == patient.name
    assert len(set(shown)) == 9


@pytest.mark.django_db(transaction=True)
def test_request_of_a_deleted_user_is_refused(client_of, user, patient):
    api = client_of(user)
    type(user).objects.filter(pk=user.pk).delete()
    assert api.get(f"/clinic/patients/{patient.pk}/").status_code in (401, 403)
    body = {"name": "new"}
    path = f"/clinic/patients/{patient.pk}/"
    assert api.patch(path, body, format="json").status_code in (401, 403)
    assert not Patient.objects.filter(name="new").exists()


def test_browsable_api_records_an_object_once(client, user, patient):
    client.force_login(user)
    response = client.get(f"/clinic/patients/{patient.pk}/", HTTP_ACCEPT="text/html")
    assert b"Pat" in response.content
    assert entries() == [("patient_viewed", "P-1", str(patient.pk))]
