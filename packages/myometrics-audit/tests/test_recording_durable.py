"""Durable entries survive the rollback of the caller's transaction."""

from __future__ import annotations

import asyncio
from threading import Thread

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.db import DatabaseError, connection, connections, transaction
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from hypothesis import given, settings
from hypothesis import strategies as st
from recording_site.models import Patient

from myometrics_audit import audit
from myometrics_audit.log import NewEntry
from myometrics_audit.models import AuditLog, Leaf

pytestmark = pytest.mark.django_db(transaction=True)

MIDDLEWARE = "myometrics_audit.middleware.RecordingMiddleware"


class Failure(Exception):
    """An error of the site's code."""


def record(action="door_opened", **arguments):
    values = {"actor": None, "resource": ("door", 1), "durable": True, **arguments}
    return audit.record(action=action, **values)


def run_async(coroutine):
    """Run it, and close the connections of the thread of ``sync_to_async``."""

    async def run():
        try:
            return await coroutine
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(run())


def actions():
    assert AuditLog.objects.count() == Leaf.objects.count()
    return list(AuditLog.objects.order_by("id").values_list("action", flat=True))


def test_durable_entry_outside_of_a_transaction_is_written_at_once():
    assert record().pk is not None
    assert actions() == ["door_opened"]


def test_durable_entry_survives_the_rollback():
    with pytest.raises(Failure), audit.recording(), transaction.atomic():
        record()
        audit.record(actor=None, action="not_durable", resource=("door", 1))
        raise Failure
    assert actions() == ["door_opened"]


def test_durable_entry_is_written_once_if_the_transaction_commits():
    with audit.recording():
        with transaction.atomic():
            record()
            assert actions() == ["door_opened"]
        assert actions() == ["door_opened"]
    assert actions() == ["door_opened"]


def test_durable_entry_survives_the_rollback_of_a_savepoint():
    with audit.recording(), transaction.atomic():
        try:
            with transaction.atomic():
                record("inner")
                raise Failure
        except Failure:
            pass
        record("outer")
    assert sorted(actions()) == ["inner", "outer"]


def test_durable_entry_with_a_reused_id_is_written_again():
    """SQLite assigns the id of a row that was rolled back to the next row."""
    with audit.recording():
        with pytest.raises(Failure), transaction.atomic():
            record("lost")
            raise Failure
        audit.record(actor=None, action="other", resource=("door", 1))
    assert sorted(actions()) == ["lost", "other"]


def test_durable_entry_keeps_the_time_of_its_event():
    with audit.recording():
        with transaction.atomic():
            kept = record("first")
            transaction.set_rollback(True)
        record("second")
    assert AuditLog.objects.get(action="first").timestamp == kept.timestamp


def test_durable_entry_in_a_transaction_that_must_roll_back_is_written():
    with audit.recording(), transaction.atomic():
        transaction.set_rollback(True)
        assert record().pk is None
    assert actions() == ["door_opened"]


def test_durable_entry_in_a_transaction_with_a_failed_statement_is_written():
    with pytest.raises(DatabaseError), audit.recording(), transaction.atomic():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT * FROM no_such_table")
        finally:
            record()
    assert actions() == ["door_opened"]


def test_durable_entry_of_a_user_who_is_rolled_back_has_no_user():
    with audit.recording(), transaction.atomic():
        user = get_user_model().objects.create_user(email="new@clinic.example")
        record(actor=user)
        transaction.set_rollback(True)
    assert AuditLog.objects.get().user_id is None


def test_durable_entries_of_a_deleted_and_a_present_user_are_all_written(user):
    with audit.recording(), transaction.atomic():
        other = get_user_model().objects.create_user(email="new@clinic.example")
        record("first", actor=other)
        record("second", actor=user)
        transaction.set_rollback(True)
    users = dict(AuditLog.objects.values_list("action", "user_id"))
    assert users == {"first": None, "second": user.pk}


def test_durable_entry_in_a_transaction_without_recording_is_refused():
    with transaction.atomic(), pytest.raises(RuntimeError, match=MIDDLEWARE):
        record()
    assert actions() == []


def test_recording_inside_a_transaction_hands_its_entries_to_the_outer_one():
    with audit.recording():
        with transaction.atomic():
            with audit.recording():
                record()
            transaction.set_rollback(True)
        assert actions() == []
    assert actions() == ["door_opened"]


def test_recording_inside_a_transaction_that_rolls_back_is_an_error():
    with pytest.raises(RuntimeError, match="survive"), transaction.atomic(), audit.recording():
        transaction.set_rollback(True)
        record()


@pytest.mark.parametrize("is_failing", [True, False])
def test_durable_entry_of_a_recording_inside_a_transaction_is_refused(is_failing):
    """The transaction may still roll back after the end of the recording."""
    refused = pytest.raises(RuntimeError, match="whole transaction")
    with refused, transaction.atomic(), audit.recording(), audit.recording():
        record()
        if is_failing:
            raise Failure
    assert actions() == []


def test_durable_entry_in_a_savepoint_inside_such_a_recording_is_refused():
    refused = pytest.raises(RuntimeError, match=MIDDLEWARE)
    with transaction.atomic(), audit.recording(), transaction.atomic(), refused:
        record()


def test_async_recording_inside_an_open_transaction_is_an_error():
    async def work():
        async with audit.recording():
            await sync_to_async(record)()

    with pytest.raises(RuntimeError, match=MIDDLEWARE), transaction.atomic():
        async_to_sync(work)()


def test_other_entries_of_a_recording_inside_a_transaction_are_written(user):
    with transaction.atomic(), audit.recording(actor=user):
        audit.record(action="a", resource=("b", 1))
    assert actions() == ["a"]


def test_recording_is_for_one_block():
    once = audit.recording()
    with once:
        record()
        with pytest.raises(RuntimeError, match="one block"), once:
            pass
    with pytest.raises(RuntimeError, match="one block"), once:
        pass
    assert actions() == ["door_opened"]


@pytest.mark.django_db(transaction=False)
def test_recording_in_a_test_case_writes_without_more_statements(django_assert_num_queries):
    with CaptureQueriesContext(connection) as plain:
        record("plain", durable=False)
    with django_assert_num_queries(len(plain)):
        record("no_recording")
    with django_assert_num_queries(len(plain) + 1), audit.recording():  # one looks for lost ones
        record("in_recording")
    assert actions() == ["plain", "no_recording", "in_recording"]


@pytest.mark.django_db(transaction=False)
def test_transaction_of_a_test_case_contains_transactions_that_roll_back():
    with pytest.raises(RuntimeError, match=MIDDLEWARE), transaction.atomic(), audit.recording():
        record()
    with pytest.raises(Failure), audit.recording(), transaction.atomic():
        record()
        raise Failure
    assert actions() == ["door_opened"]


def test_many_durable_entries_survive():
    with audit.recording(), transaction.atomic():
        audit.record_many(
            (audit.entry(actor=None, action=f"a{n}", resource=("b", n)) for n in range(3)),
            durable=True,
        )
        transaction.set_rollback(True)
    assert actions() == ["a0", "a1", "a2"]


def test_durable_entries_of_concurrent_threads_all_survive(run_concurrently):
    def work():
        with pytest.raises(Failure), audit.recording(), transaction.atomic():
            Patient.objects.create(number="P-1", name="x")
            record()
            raise Failure

    assert run_concurrently(work, times=10) == [None] * 10
    assert actions() == ["door_opened"] * 10
    assert not Patient.objects.exists()


steps = st.recursive(
    st.sampled_from(["durable", "plain"]),
    lambda blocks: st.tuples(st.booleans(), st.lists(blocks, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=30)
@given(block=st.tuples(st.booleans(), st.lists(steps, max_size=4)))
def test_durable_entries_exist_once_after_any_nesting_of_rollbacks(block):
    """All durable entries exist once, and of the others those of committed blocks."""
    earlier = set(AuditLog.objects.values_list("pk", flat=True))
    names = iter(range(1000))
    expected = []

    def run(block, is_kept):
        is_committed, inner = block
        is_kept = is_kept and is_committed
        with transaction.atomic():
            for step in inner:
                if isinstance(step, tuple):
                    run(step, is_kept)
                    continue
                name = f"{step}_{next(names)}"
                audit.record(actor=None, action=name, resource=("b", 1), durable=step == "durable")
                if step == "durable" or is_kept:
                    expected.append(name)
            transaction.set_rollback(not is_committed)

    with audit.recording():
        run(block, True)
    new = AuditLog.objects.exclude(pk__in=earlier)
    assert sorted(new.values_list("action", flat=True)) == sorted(expected)


@pytest.fixture
def atomic_requests(monkeypatch):
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)


@pytest.fixture
def middleware(settings):
    settings.MIDDLEWARE = [MIDDLEWARE, *settings.MIDDLEWARE]


@pytest.fixture
def denied_patient():
    return Patient.objects.create(number="P-1", name="Pat", owner="someone")


def denied_actions():
    return list(AuditLog.objects.values_list("action", "data_subject"))


@pytest.mark.usefixtures("atomic_requests", "middleware")
def test_denied_access_survives_atomic_requests(client_of, user, denied_patient):
    response = client_of(user).get(f"/clinic/patients/{denied_patient.pk}/")
    assert response.status_code == 403
    assert denied_actions() == [("patient_access_denied", "P-1")]


def test_denied_access_is_recorded_without_atomic_requests(client_of, user, denied_patient):
    assert client_of(user).get(f"/clinic/patients/{denied_patient.pk}/").status_code == 403
    assert denied_actions() == [("patient_access_denied", "P-1")]


@pytest.mark.usefixtures("atomic_requests")
def test_denied_access_with_atomic_requests_needs_the_middleware(
    client_of, user, denied_patient, caplog
):
    response = client_of(user).get(f"/clinic/patients/{denied_patient.pk}/")
    assert response.status_code == 403
    assert denied_actions() == []
    assert MIDDLEWARE in caplog.text


@pytest.mark.usefixtures("atomic_requests")
def test_denied_page_with_atomic_requests_without_middleware_logs_an_error(
    client, django_user_model, caplog
):
    clerk = django_user_model.objects.create_user(email="c@clinic.example", is_staff=True)
    client.force_login(clerk)
    assert client.get("/admin/recording_site/patient/").status_code == 403
    assert denied_actions() == []
    assert MIDDLEWARE in caplog.text


@pytest.mark.usefixtures("atomic_requests", "middleware")
def test_failed_change_is_not_recorded_with_atomic_requests(client_of, user):
    patient = Patient.objects.create(number="P-1", name="Pat")
    client_of(user).post(f"/clinic/patients/{patient.pk}/fail/", {}, format="json")
    assert denied_actions() == []


@pytest.mark.usefixtures("middleware")
def test_middleware_writes_entries_of_plain_views():
    assert Client().get("/clinic/denied/").status_code == 403
    assert actions() == ["door_opened"]


@pytest.mark.usefixtures("middleware")
def test_middleware_works_under_asgi():
    response = run_async(AsyncClient().get("/clinic/denied/"))
    assert response.status_code == 403
    assert actions() == ["door_opened"]


@pytest.mark.django_db(transaction=False)
@pytest.mark.usefixtures("middleware")
def test_durable_entries_work_in_a_test_case(client_of, user, denied_patient):
    """In a TestCase the transaction of the test encloses each request."""
    assert client_of(user).get(f"/clinic/patients/{denied_patient.pk}/").status_code == 403
    assert denied_actions() == [("patient_access_denied", "P-1")]


@pytest.mark.django_db(transaction=False)
def test_mixin_without_middleware_works_in_a_test_case(client_of, user, denied_patient):
    assert client_of(user).get(f"/clinic/patients/{denied_patient.pk}/").status_code == 403
    assert denied_actions() == [("patient_access_denied", "P-1")]


def test_recording_gives_actor_purpose_and_legal_basis(user):
    with audit.recording(actor=user, purpose="TREAT", legal_basis="consent"):
        audit.record(action="a", resource=("b", 1))
        audit.record(actor=None, action="b", resource=("b", 1), purpose="HRESCH")
        with audit.recording(purpose="HPAYMT"):
            audit.record(action="c", resource=("b", 1))
    rows = AuditLog.objects.order_by("id").values_list("user_id", "purpose", "legal_basis")
    assert list(rows) == [
        (user.pk, "TREAT", "consent"),
        (None, "HRESCH", "consent"),
        (user.pk, "HPAYMT", "consent"),
    ]


def test_record_without_actor_and_recording_is_refused():
    with pytest.raises(TypeError, match="actor"):
        audit.record(action="a", resource=("b", 1))
    with audit.recording(purpose="TREAT"), pytest.raises(TypeError, match="actor"):
        audit.record(action="a", resource=("b", 1))


def test_recording_is_not_visible_in_other_threads(user):
    errors = []

    def work():
        try:
            audit.entry(action="a", resource=("b", 1))
        except TypeError as error:
            errors.append(error)

    with audit.recording(actor=user):
        thread = Thread(target=work)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_recordings_of_concurrent_async_tasks_are_apart():
    async def work(name, others):
        async with audit.recording(actor=None, purpose=name):
            others.append(name)
            while len(others) < 5:
                await asyncio.sleep(0)
            await audit.arecord(action="a", resource=("b", name))

    async def run():
        others = []
        await asyncio.gather(*(work(f"p{n}", others) for n in range(5)))

    run_async(run())
    rows = AuditLog.objects.values_list("purpose", "resource_id")
    assert sorted(rows) == [(f"p{n}", f"p{n}") for n in range(5)]


def test_async_recording_writes_lost_entries():
    def fail():
        with transaction.atomic():
            record()
            raise Failure

    async def run():
        async with audit.recording():
            await sync_to_async(fail)()

    with pytest.raises(Failure):
        run_async(run())
    assert actions() == ["door_opened"]


def test_async_task_that_outlives_its_recording_is_refused():
    def in_transaction():
        with transaction.atomic():
            record()

    async def later(is_over):
        await is_over.wait()
        await sync_to_async(in_transaction)()

    async def run():
        is_over = asyncio.Event()
        async with audit.recording():
            task = asyncio.create_task(later(is_over))
        is_over.set()
        await task

    with pytest.raises(RuntimeError, match="survive"):
        run_async(run())


def test_record_access_has_the_action_of_the_model(user):
    patient = Patient.objects.create(number="P-1", name="x")
    values = {"actor": user, "data_subject": "P-1"}
    audit.record_access(**values, resource=patient, purpose="TREAT", legal_basis="consent")
    audit.record_access(**values, resource=("clinic.letter", 7))
    audit.record_access(**values, resource=("letter", 7), action="letter_printed")
    rows = AuditLog.objects.order_by("id")
    assert [row.action for row in rows] == ["patient_viewed", "letter_viewed", "letter_printed"]
    assert {row.data_subject for row in rows} == {"P-1"}
    assert (rows[0].purpose, rows[0].legal_basis) == ("TREAT", "consent")


def test_entries_written_at_once_have_valid_evidence(user):
    addresses = ["198.51.100.7", "2001:db8::1", None]
    audit.record_many(
        NewEntry(
            actor_id=user.pk,
            action="letter_viewed",
            resource_type="letter",
            resource_id=str(number),
            details={"text": 'quote " and \\ and ü', "number": 1e22, "none": None},
            client_address=address,
        )
        for number, address in enumerate(addresses)
    )
    assert list(AuditLog.objects.order_by("id").values_list("ip_address", flat=True)) == addresses
    call_command("audit_seal")
    call_command("audit_verify")


def test_many_accesses_have_evidence_in_the_order_of_the_entries(user):
    entries = [
        audit.access_entry(actor=user, data_subject=f"P-{n}", resource=("letter", n))
        for n in range(1203)
    ]
    rows = audit.record_many(entries)
    assert [row.data_subject for row in rows] == [f"P-{n}" for n in range(1203)]
    stored = AuditLog.objects.order_by("id").values_list("id", "data_subject")
    assert list(stored) == [(row.pk, row.data_subject) for row in rows]
    assert list(Leaf.objects.order_by("entry_id").values_list("entry_id", flat=True)) == [
        row.pk for row in rows
    ]
