"""The access report: exact, recorded, and only for those who may read it."""

from __future__ import annotations

import csv
import io
import json
from datetime import date, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext, override_settings
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from myometrics_audit import audit
from myometrics_audit.access_report import report
from myometrics_audit.access_report.files import CSV_COLUMNS
from myometrics_audit.listing import Selection, entries_page, entries_select
from myometrics_audit.models import AuditLog
from myometrics_core.events import is_reserved_action

pytestmark = pytest.mark.django_db

URL = "/api/audit-logs/access-report/"
MOMENT = datetime(2025, 8, 19, 15, 45, tzinfo=timezone.utc)


def subject_of(user):
    """The portal's rule of the tests: patients are those with an address at patient.example."""
    name, _, domain = user.email.partition("@")
    return name if domain == "patient.example" else None


def role_of(user):
    return "Nurse"


@pytest.fixture
def reviewer(django_user_model):
    """A user who may read all reports, and is no administrator."""
    reviewer = django_user_model.objects.create_user(
        email="rita@clinic.example", password="pw", full_name="Rita Reviewer"
    )
    reviewer.user_permissions.add(Permission.objects.get(codename="view_access_report"))
    return reviewer


@pytest.fixture
def patient(django_user_model, settings):
    """The user of the data subject ``p1``."""
    portal = {"ACCESS_REPORT_OWN_SUBJECT": subject_of, "ACCESS_REPORT_USER_NAME": role_of}
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, **portal}
    return django_user_model.objects.create_user(email="p1@patient.example", password="pw")


@pytest.fixture
def read(client_of):
    """A function that reads a report and returns the response."""

    def get(user, **query):
        return client_of(user).get(URL, query)

    return get


def viewed(user, subject="p1", **values):
    values = {"resource": ("clinic.report", "r1"), "action": "report_viewed", **values}
    return audit.record(actor=user, data_subject=subject, **values)


def content(response):
    return b"".join(response.streaming_content).decode()


def test_report_has_who_when_what_and_why(user, reviewer, read):
    user.full_name = "Tina Hart"
    user.save()
    entry = viewed(user, purpose="treatment", legal_basis="GDPR 9(2)(h)")
    viewed(user, subject="p2")
    viewed(user, subject="")
    body = read(reviewer, data_subject="p1").json()
    assert body == {
        "count": 1,
        "next": None,
        "previous": None,
        "results": [
            {
                "id": entry.pk,
                "timestamp": entry.timestamp.isoformat().replace("+00:00", "Z"),
                "who": "Tina Hart",
                "user_id": str(user.pk),
                "action": "report_viewed",
                "resource_type": "clinic.report",
                "resource_id": "r1",
                "purpose": "treatment",
                "legal_basis": "GDPR 9(2)(h)",
                "origin": "server",
            }
        ],
    }


def test_user_without_a_name_is_shown_by_user_name(user, reviewer, read):
    viewed(user)
    viewed(None)
    names = [row["who"] for row in read(reviewer, data_subject="p1").json()["results"]]
    assert names == ["", "tina@clinic.example"]


@pytest.mark.parametrize("file_format", ["json", "csv", "fhir"])
def test_each_request_leaves_an_entry_of_the_reader(reviewer, read, file_format):
    answer = read(reviewer, data_subject="p1", format=file_format, start_date="2025-01-31")
    assert answer.status_code == 200
    entry = AuditLog.objects.get()
    assert (entry.user, entry.action) == (reviewer, "access_report_viewed")
    assert (entry.resource_type, entry.resource_id) == ("access_report", "p1")
    assert entry.data_subject == "p1"
    assert entry.details == {"format": file_format, "start_date": "2025-01-31"}
    assert entry.ip_address == "127.0.0.1"


def test_next_report_contains_the_reading_of_the_previous_one(reviewer, read):
    read(reviewer, data_subject="p1")
    rows = read(reviewer, data_subject="p1").json()["results"]
    assert [row["action"] for row in rows] == ["access_report_viewed"]


def test_clients_cannot_post_entries_of_reports(user, client_of):
    assert is_reserved_action("access_report_viewed")
    assert is_reserved_action("access_report_denied")
    assert is_reserved_action("record_opened_outside_care_team")
    body = {"action": "access_report_viewed", "resource_type": "x", "resource_id": "1"}
    assert client_of(user).post("/api/audit-logs/", body, format="json").status_code == 400


def test_pages_do_not_shift_by_the_entries_of_reading_them(user, reviewer, client_of):
    entries = [viewed(user, resource=("r", str(number))) for number in range(25)]
    ids: list[int] = []
    url: str | None = URL + "?data_subject=p1&page_size=4"
    while url:
        body = client_of(reviewer).get(url).json()
        assert body["count"] == 25
        ids += [row["id"] for row in body["results"]]
        url = body["next"]
    assert ids == [entry.pk for entry in reversed(entries)]


def test_max_id_leaves_out_newer_entries(user, reviewer, read):
    first, second = viewed(user), viewed(user)
    for max_id, expected in ((second.pk, 2), (first.pk, 1), (0, 0), (2**63 - 1, 5)):
        assert read(reviewer, data_subject="p1", max_id=max_id).json()["count"] == expected


@pytest.mark.django_db(transaction=True)
def test_caller_who_was_deleted_gets_401(reviewer, client_of):
    reviewer.is_superuser = True
    client = client_of(reviewer)
    type(reviewer).objects.filter(pk=reviewer.pk).delete()
    assert client.get(URL, {"data_subject": "p1"}).status_code == 401


@pytest.mark.parametrize("caller", ["user", "administrator"])
def test_report_needs_its_own_permission(request, read, caller):
    answer = read(request.getfixturevalue(caller), data_subject="p1")
    assert answer.status_code == 403
    assert AuditLog.objects.get().action == "access_report_denied"


def test_anonymous_caller_is_refused(client):
    answer = client.get(URL, {"data_subject": "p1"})
    # The site authenticates by session, which has no scheme for a 401.
    assert (answer.status_code, answer.json()["code"]) == (403, "not_authenticated")


@pytest.mark.parametrize("query", [{}, {"data_subject": "p1"}])
@pytest.mark.parametrize("file_format", ["json", "csv", "fhir"])
def test_patient_reads_only_their_own_report(patient, user, read, query, file_format):
    user.full_name = "Tina Hart"
    user.save()
    viewed(user, details={"secret": "internal"})
    viewed(user, subject="p2", resource=("clinic.report", "of-p2"))
    answer = read(patient, **query, format=file_format)
    assert answer.status_code == 200
    text = content(answer) if answer.streaming else answer.content.decode()
    assert "clinic.report" in text
    assert "Nurse" in text
    for hidden in ("of-p2", "Tina", str(user.pk), user.email, "127.0.0.1", "internal"):
        assert hidden not in text


@pytest.mark.parametrize("file_format", ["json", "csv", "fhir"])
def test_name_of_a_user_is_found_once(patient, user, administrator, read, settings, file_format):
    calls = []
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_USER_NAME": lambda user: calls.append(user.pk) or role_of(user),
    }
    for reader in [user, administrator] * 5:
        viewed(reader)
    answer = read(patient, format=file_format)
    text = content(answer) if answer.streaming else answer.content.decode()
    assert text.count("Nurse") >= 10
    assert sorted(calls) == sorted([user.pk, administrator.pk])


def test_names_of_many_users_are_kept_up_to_a_limit(patient, monkeypatch):
    monkeypatch.setattr(report, "MAX_NAMES", 2)
    names = report.UserNames(for_subject=True)
    users = [type(patient)(email=f"{n}@clinic.example") for n in range(5)]
    assert [names.name_of(user) for user in users * 2] == ["Nurse"] * 10
    assert len(names._known) <= 2


@pytest.mark.parametrize("name", [None, ""])
@pytest.mark.parametrize("file_format", ["json", "csv", "fhir"])
def test_user_whose_name_is_empty_is_shown_by_a_neutral_word(
    patient, user, read, settings, name, file_format
):
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_USER_NAME": lambda user: name,
    }
    viewed(user)
    answer = read(patient, format=file_format)
    text = content(answer) if answer.streaming else answer.content.decode()
    shown = {"json": '"who":"User"', "csv": ",User,", "fhir": '"User"'}[file_format]
    assert shown in text
    assert "None" not in text


def test_patient_is_refused_the_report_of_another(patient, user, read):
    answer = read(patient, data_subject="p2")
    assert answer.status_code == 403
    assert answer.json()["detail"] == "You may read only the report about yourself."
    entry = AuditLog.objects.get()
    assert (entry.user, entry.action, entry.data_subject) == (patient, "access_report_denied", "p2")
    assert (entry.resource_type, entry.resource_id) == ("access_report", "p2")


@pytest.mark.parametrize(
    ("subject", "recorded"),
    [("p1", ["p1"]), (None, []), ("", []), ("a\x00", ["a"]), ("x" * 200, ["x" * 100])],
)
def test_refused_request_is_recorded_if_it_names_a_subject(user, read, subject, recorded):
    query = {} if subject is None else {"data_subject": subject}
    assert read(user, **query).status_code == 403
    entries = AuditLog.objects.filter(action="access_report_denied", user=user)
    assert list(entries.values_list("data_subject", flat=True)) == recorded
    assert AuditLog.objects.count() == len(recorded)


@pytest.mark.parametrize("key", ["of a user", "scanner-1"])
def test_refused_principal_that_is_no_user_is_not_recorded_as_one(user, read, key):
    pk = str(user.pk) if key == "of a user" else key
    response = read(SimpleNamespace(pk=pk, is_authenticated=True), data_subject="p1")
    assert (response.status_code, response.json()["code"]) == (403, "permission_denied")
    assert not AuditLog.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_refused_request_is_recorded_with_atomic_requests(user, read, monkeypatch):
    monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
    assert read(user, data_subject="p1").status_code == 403
    assert AuditLog.objects.get().action == "access_report_denied"


def test_reviewer_who_is_a_patient_reads_every_report(patient, user, read):
    patient.user_permissions.add(Permission.objects.get(codename="view_access_report"))
    viewed(user, subject="p2")
    (row,) = read(patient, data_subject="p2").json()["results"]
    assert row["user_id"] == str(user.pk)
    assert read(patient).json()["count"] == 0


def test_function_that_returns_no_subject_gives_no_access(settings, user, read):
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_OWN_SUBJECT": lambda user: "",
    }
    assert read(user).status_code == 403


def test_own_subject_may_be_a_number(settings, user, read):
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ACCESS_REPORT_OWN_SUBJECT": lambda user: 0,
    }
    viewed(user, subject="0")
    assert read(user).json()["count"] == 1
    assert read(user, data_subject="0").json()["count"] == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page", "x" * 70_000),
        ("page_size", "\x00"),
        ("data_subject", ""),
        ("data_subject", "x" * 101),
        ("data_subject", "a\x00"),
        ("start_date", "yesterday"),
        ("end_date", "2025-02-30"),
        ("format", "xml"),
        ("max_id", "-1"),
        ("max_id", "9" * 30),
        ("page", "0"),
    ],
)
def test_invalid_parameter_returns_400_with_its_name(reviewer, read, name, value):
    answer = read(reviewer, **{"data_subject": "p1", name: value})
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == [name]


def test_filters_of_the_log_do_not_narrow_a_report(user, reviewer, read):
    viewed(user)
    query = {"action": "nothing", "user_id": "invalid", "resource_type": "x", "resource_id": "y"}
    assert read(reviewer, data_subject="p1", **query).json()["count"] == 1


def test_page_past_the_end_returns_404(reviewer, read):
    assert read(reviewer, data_subject="p1", page="2").status_code == 404


def test_erased_users_are_shown_as_pseudonyms(settings, user, reviewer, read):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    entry = viewed(user)
    user.delete()
    entry.refresh_from_db()
    (row,) = read(reviewer, data_subject="p1").json()["results"]
    assert entry.pseudonym
    assert (row["who"], row["user_id"]) == (entry.pseudonym, None)
    events = json.loads(content(read(reviewer, data_subject="p1", format="fhir")))
    agents = events["entry"][0]["resource"]["agent"]
    assert agents[-1]["who"] == {"identifier": {"value": entry.pseudonym}}


def test_csv_has_all_rows_oldest_first_and_ends_with_a_marker(user, reviewer, read):
    entries = [viewed(user, resource=("r", f"{number}")) for number in range(3)]
    answer = read(reviewer, data_subject="p1", format="csv", page="7")
    assert answer["Content-Disposition"] == 'attachment; filename="access_report.csv"'
    header, *rows, last = list(csv.reader(io.StringIO(content(answer))))
    assert tuple(header) == CSV_COLUMNS
    assert [row[5] for row in rows] == [entry.resource_id for entry in entries]
    assert last == ["complete", "true"]


@pytest.mark.parametrize("formula", ["=1+1", "+1", "@x", "-2", " =cmd"])
def test_csv_is_safe_in_spreadsheets(user, reviewer, read, formula):
    viewed(user, purpose=formula, resource=(formula, formula))
    rows = list(csv.reader(io.StringIO(content(read(reviewer, data_subject="p1", format="csv")))))
    assert rows[1][4:7] == ["'" + formula] * 3


def test_fhir_is_a_bundle_of_events_with_the_patient(user, reviewer, read):
    viewed(user, purpose="treatment", legal_basis="consent")
    read(reviewer, data_subject="p1")
    answer = read(reviewer, data_subject="p1", format="fhir")
    assert answer["Content-Disposition"] == 'attachment; filename="access_report.json"'
    bundle = json.loads(content(answer))
    Bundle.model_validate(bundle)
    assert (bundle["type"], bundle["total"], len(bundle["entry"])) == ("searchset", 2, 2)
    first, second = (found["resource"] for found in bundle["entry"])
    assert first["purposeOfEvent"] == [{"text": "treatment"}]
    profiles = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
    assert second["meta"]["profile"] == [profiles + "PatientRead"]
    for event in (first, second):
        patient = event["entity"][1]
        assert patient["what"] == {"type": "Patient", "identifier": {"value": "p1"}}
        assert (patient["type"]["code"], patient["role"]["code"]) == ("1", "1")


def test_empty_bundle_is_valid(reviewer, read):
    bundle = json.loads(content(read(reviewer, data_subject="p1", format="fhir")))
    Bundle.model_validate(bundle)
    assert bundle == {"resourceType": "Bundle", "type": "searchset", "total": 0}


@pytest.mark.parametrize("rows", [1, 60])
def test_number_of_statements_does_not_depend_on_the_rows(user, reviewer, read, rows):
    for _ in range(rows):
        viewed(user)
    client_reads = {"data_subject": "p1", "page_size": "100"}
    read(reviewer, **client_reads)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        read(reviewer, **client_reads)
    reads = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    # The page with its count, and its users. The client's user has their permissions cached.
    # PostgreSQL: the closed partitions, too.
    assert len(reads) == (3 if connection.vendor == "postgresql" else 2), reads


def test_report_uses_the_index_of_subjects(user):
    last = viewed(user).pk
    statements = []

    def collect(execute, sql, params, many, context):
        if AuditLog._meta.db_table in sql:
            statements.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(collect):
        for selection in (
            Selection(data_subject="p1"),
            Selection(data_subject="p1", start_date=date(2025, 1, 1), max_id=last),
        ):
            entries_page(selection, 0, 20)
            list(entries_select(selection)[:1])
    assert len(statements) == 4
    for statement in statements:
        plan = query_plan(*statement)
        assert "myo_audit_subject" in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan


def query_plan(sql, params):
    """Return the plan of a statement on a large table."""
    is_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        if is_postgresql:
            cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {'' if is_postgresql else 'QUERY PLAN'} {sql}", params)
        return "\n".join(str(row) for row in cursor.fetchall())


def test_entries_without_data_subject_are_not_in_the_index(user):
    viewed(user, subject="")
    with connection.cursor() as cursor:
        constraints = connection.introspection.get_constraints(cursor, AuditLog._meta.db_table)
    assert constraints["myo_audit_subject"]["columns"] == ["data_subject", "timestamp", "id"]
    plan = query_plan(*AuditLog.objects.filter(data_subject="").query.sql_with_params())
    assert "myo_audit_subject" not in plan


SUBJECTS = ("", "p1", "p2", "p1 ", "P1")
TRAFFIC = st.lists(
    st.tuples(
        st.sampled_from(SUBJECTS),
        st.integers(0, 2),
        st.integers(0, 20).map(lambda half_days: MOMENT + timedelta(hours=12 * half_days)),
        st.sampled_from(["report_viewed", "report_printed", "report_deleted"]),
    ),
    max_size=30,
)
DAY = st.none() | st.integers(0, 9).map(lambda days: MOMENT.date() + timedelta(days=days))


@settings(max_examples=30)
@given(
    traffic=TRAFFIC,
    deleted=st.sets(st.integers(0, 2)),
    on_delete=st.sampled_from(["cascade", "retain"]),
    start=DAY,
    end=DAY,
    page_size=st.integers(1, 7),
)
def test_report_equals_an_oracle_over_random_traffic(
    reviewer, django_user_model, client_of, traffic, deleted, on_delete, start, end, page_size
):
    with transaction.atomic():
        users = [django_user_model.objects.create_user(email=f"u{n}@x") for n in range(3)]
        oracle = [
            (at, audit_entry(users[actor], subject, at, action).pk, subject, actor)
            for subject, actor, at, action in traffic
        ]
        changed = {"ALLOW_FLUSH": True, "ON_USER_DELETE": on_delete}
        with override_settings(MYOMETRICS_AUDIT=changed):
            for number in deleted:
                users[number].delete()
        for subject in SUBJECTS[1:]:
            expected = [
                key
                for at, key, of, actor in sorted(oracle, reverse=True)
                if of == subject
                and (on_delete == "retain" or actor not in deleted)
                and (start is None or at.date() >= start)
                and (end is None or at.date() <= end)
            ]
            if not (start and end and start > end):
                days = {"start_date": start, "end_date": end}
                query = {"data_subject": subject, **{k: v for k, v in days.items() if v}}
                assert read_pages(client_of(reviewer), query, page_size) == expected
        transaction.set_rollback(True)


def audit_entry(user, subject, at, action):
    return AuditLog.objects.create(
        user=user,
        action=action,
        resource_type="report",
        resource_id="r",
        data_subject=subject,
        timestamp=at,
    )


def read_pages(client, query, page_size):
    """Return the ids of all pages; checks the count of each."""
    ids: list[int] = []
    answer = client.get(URL, {**query, "page_size": page_size})
    while True:
        body = answer.json()
        ids += [row["id"] for row in body["results"]]
        if body["next"] is None:
            assert len(ids) == body["count"]
            return ids
        answer = client.get(body["next"])


@pytest.mark.django_db(transaction=True)
def test_concurrent_readers_are_all_recorded(
    user, reviewer, run_concurrently, client_of, database_vendor
):
    expected = [viewed(user).pk for _ in range(3)]

    def read(number=0):
        body = client_of(reviewer).get(URL, {"data_subject": "p1", "page_size": 100}).json()
        return [row["id"] for row in body["results"] if row["action"] == "report_viewed"]

    results = run_concurrently(read, times=8)
    assert results == [expected[::-1]] * 8
    assert AuditLog.objects.filter(action="access_report_viewed").count() == 8
