"""Owners of uploads that the image service names by e-mail address, in any order of events.

Specification: "Uploads" of the identity contract.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from conftest import PASSWORD
from django.contrib.auth import get_user_model
from django.db import IntegrityError, connection, transaction
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from rest_framework.exceptions import ValidationError

from myometrics_analytics.models import DailyRollup, Status, Upload, UploadReport, UserRollup
from myometrics_analytics.pull import Listing, UploadSource
from myometrics_analytics.pull.image_service import convert_row
from myometrics_analytics.pull.pulling import PULL_ALL_JOB, uploads_pull
from myometrics_analytics.rollups import changes_fold, rebuild_run, rollups_check
from myometrics_analytics.rollups.rebuilding import facts_clear
from myometrics_audit.audit import record
from myometrics_auth.account_links import confirmation_url, undo_url, verification_url
from myometrics_auth.models import AddressOwnership, EmailChange
from myometrics_auth.models.address_ownerships import _linked
from myometrics_auth.services.email_changes import (
    email_change_confirm,
    email_change_request,
    email_change_undo,
)
from myometrics_auth.services.users import user_delete, user_update
from myometrics_auth.services.verification import email_verify
from myometrics_core.jobs import Job, run_jobs

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("cheap_hashes")]

START = datetime(2026, 3, 2, 9, tzinfo=timezone.utc)
ADDRESSES = [f"{name}@clinic.example" for name in "abcde"]
REQUEST = RequestFactory().post("/")
DETAILS = {"processed": Status.COMPLETED, "queued": Status.PROCESSING, "failed": Status.FAILED}


LINKED: list = []
"""The running model."""


class ListedUploads(UploadSource):
    """Lists :attr:`rows`, as the image service does."""

    rows: list[dict] = []

    def is_configured(self):
        return True

    def fetch(self, validators):
        return Listing(rows=(convert_row(row, 1) for row in list(self.rows)))


def service_row(name, upload_id, moment, status="processed", diagnosis="Normal"):
    return {
        "user_id": str(name),
        "upload_id": upload_id,
        "upload_time": moment.isoformat(),
        "status": status,
        "diagnosis": diagnosis,
    }


def linked_addresses(user_ids):
    """The links of the running model, as a package registers them."""
    return [one for model in LINKED for one in sorted(model.linked) if one[0] in user_ids]


def token_of(link):
    return parse_qs(urlsplit(link).query)["token"][0]


def make(email, **fields):
    return get_user_model().objects.create_user(email=email, password=PASSWORD, **fields)


def verify(user):
    user.refresh_from_db()
    email_verify(token=token_of(verification_url(user)), password=PASSWORD, request=REQUEST)


def request_change(user, email):
    user.refresh_from_db()
    email_change_request(user=user, session=None, email=email, password=PASSWORD, request=REQUEST)
    return EmailChange.objects.pending().get(user=user)


def change_address(user, email):
    change = request_change(user, email)
    email_change_confirm(
        token=token_of(confirmation_url(change)), password=PASSWORD, request=REQUEST
    )
    return change


def undo(change):
    user = email_change_undo(token=token_of(undo_url(change)), request=REQUEST)
    user.set_password(PASSWORD)
    user.save()


@pytest.fixture
def service(settings, monkeypatch):
    """The rows of the image service."""
    monkeypatch.setitem(_linked, "test", linked_addresses)
    settings.MYOMETRICS_ANALYTICS = {
        **settings.MYOMETRICS_ANALYTICS,
        "UPLOAD_SOURCE": ListedUploads,
    }
    settings.REAUTHENTICATE_FOR = []
    ListedUploads.rows = rows = []
    LINKED.clear()
    return rows


@pytest.fixture
def clock():
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


def facts():
    return sorted(Upload.objects.values_list("user_id", "upload_id", "status", "diagnosis"))


@dataclass
class Tenure:
    """A user's time with an address in the model; ``end`` ``None``: still."""

    user: int
    began: datetime
    end: datetime | None = None


@dataclass
class Model:
    """What is expected, written from the contract and kept in lists."""

    tenures: dict[str, list[Tenure]] = field(default_factory=lambda: {a: [] for a in ADDRESSES})
    erased: set[int] = field(default_factory=set)
    linked: set[tuple[int, str]] = field(default_factory=set)

    def follow(self, user, verified, now):
        """The user has the ``verified`` address, and linked ones that no other user has."""
        for address in ADDRESSES:
            if address != verified and (user, address) not in self.linked:
                self.end(address, user, now)
        for address in filter(None, [verified, *self.linked_to(user)]):
            holder = next((one for one in self.tenures[address] if one.end is None), None)
            if holder and holder.user != user and address == verified:
                holder.end, holder = now, None
            if holder is None:
                self.tenures[address].append(Tenure(user, now))

    def linked_to(self, user):
        return sorted(address for one, address in self.linked if one == user)

    def end(self, address, user, now):
        for one in self.tenures[address]:
            if one.user == user and one.end is None:
                one.end = now

    def owner(self, address, moment):
        """The user who had ``address`` at ``moment``; a returning user never lost it."""
        merged: list[list] = []
        for one in self.tenures[address]:
            if merged and merged[-1][0] == one.user:
                merged[-1][2] = one.end
                continue
            began = one.began if merged else None
            merged.append([one.user, began, one.end])
        for user, began, end in merged:
            is_after = began is None or began <= moment
            if is_after and (end is None or moment < end):
                return None if user in self.erased else user
        return None


class AnyOrder(RuleBasedStateMachine):
    """Accounts, uploads and pulls in any order."""

    def __init__(self):
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.travel = time_machine.travel(START, tick=False)
        self.clock = self.travel.start()
        ListedUploads.rows = self.rows = []
        self.model = Model()
        LINKED[:] = [self.model]
        self.users = {}
        self.events = []
        self.changes = []
        self.uploads = 0

    def teardown(self):
        try:
            self.settle()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)
            self.travel.stop()

    @property
    def now(self):
        return datetime.now(timezone.utc)

    def pick(self, number):
        return self.users[sorted(self.users)[number % len(self.users)]]

    def tick(self):
        self.clock.shift(timedelta(hours=1))

    @initialize()
    def begin(self):
        make("root@clinic.example", role="admin", is_superuser=True)
        for address in ADDRESSES[:2]:
            user = make(address)
            self.users[user.pk] = user
            verify(user)
            self.model.follow(user.pk, address, self.now)

    @rule(address=st.sampled_from(ADDRESSES))
    def register(self, address):
        self.tick()
        taken = get_user_model().objects.filter(email=address).exists()
        if not taken and not EmailChange.objects.reserving(address).exists():
            user = make(address)
            self.users[user.pk] = user

    @precondition(lambda self: self.users)
    @rule(number=st.integers(0, 2))
    def verify(self, number):
        self.tick()
        user = self.pick(number)
        user.refresh_from_db()
        if user.verified_at is None:
            verify(user)
            self.model.follow(user.pk, user.email, self.now)

    @precondition(lambda self: self.users)
    @rule(number=st.integers(0, 2), address=st.sampled_from(ADDRESSES))
    def change(self, number, address):
        self.tick()
        user = self.pick(number)
        user.refresh_from_db()
        before = user.email
        try:
            change = change_address(user, address)
        except ValidationError:
            return
        self.model.follow(user.pk, address, self.now)
        self.changes.append((change, user.pk, before))
        self.rows.append(service_row(address, f"u{number}", self.now))
        run_jobs(PULL_ALL_JOB)

    @precondition(lambda self: self.changes)
    @rule(number=st.integers(0, 5))
    def undo(self, number):
        self.tick()
        change, user_id, before = self.changes[number % len(self.changes)]
        change = EmailChange.objects.undoable().filter(pk=change.pk).first()
        if change is None:
            return
        undo(change)
        for address, tenures in self.model.tenures.items():
            is_linked = (user_id, address) in self.model.linked
            tenures[:] = [
                one
                for one in tenures
                if one.user != user_id or one.began < change.confirmed_at or is_linked
            ]
        self.model.follow(user_id, before, self.now)

    @precondition(lambda self: self.users)
    @rule(number=st.integers(0, 2), address=st.sampled_from(ADDRESSES))
    def change_by_administrator(self, number, address):
        self.tick()
        user = self.pick(number)
        user.refresh_from_db()
        before = user.email
        try:
            with transaction.atomic():
                user_update(actor=None, user_id=user.pk, changes={"email": address}, request=None)
        except (ValidationError, IntegrityError):
            return
        if before != address:
            self.model.follow(user.pk, None, self.now)

    @precondition(lambda self: self.users)
    @rule(number=st.integers(0, 2), address=st.sampled_from(ADDRESSES))
    def link(self, number, address):
        """Another service vouches for the address, as a linked identity does."""
        self.change_links(self.pick(number), self.model.linked.add, address)

    @precondition(lambda self: self.model.linked)
    @rule(number=st.integers(0, 5))
    def unlink(self, number):
        user_id, address = sorted(self.model.linked)[number % len(self.model.linked)]
        self.change_links(self.users[user_id], self.model.linked.discard, address)

    def change_links(self, user, change, address):
        self.tick()
        user.refresh_from_db()
        change((user.pk, address))
        AddressOwnership.objects.follow([user.pk])
        self.model.follow(user.pk, user.email if user.verified_at else None, self.now)

    @precondition(lambda self: self.users)
    @rule(number=st.integers(0, 2))
    def delete(self, number):
        self.tick()
        user = self.pick(number)
        user_delete(actor=None, user_id=user.pk, request=None)
        self.model.linked = {one for one in self.model.linked if one[0] != user.pk}
        self.model.follow(user.pk, None, self.now)
        self.model.erased.add(user.pk)
        del self.users[user.pk]

    @rule(
        address=st.sampled_from(ADDRESSES),
        number=st.integers(0, 2),
        by_id=st.booleans(),
        hours=st.sampled_from([-300, -30, -1, 0, 0, 5]),
        status=st.sampled_from(sorted(DETAILS)),
        diagnosis=st.sampled_from([None, "Normal", "Infarct"]),
        upload=st.integers(0, 3),
    )
    def upload(self, address, number, by_id, hours, status, diagnosis, upload):
        moment = self.now + timedelta(hours=hours)
        name = self.pick(number).pk if by_id and self.users else address.upper()
        self.rows.append(service_row(name, f"u{upload}", moment, status, diagnosis))

    @precondition(lambda self: self.users)
    @rule(
        number=st.integers(0, 2),
        upload=st.integers(0, 3),
        action=st.sampled_from(["upload_created", "upload_failed"]),
        diagnosis=st.sampled_from([None, "Infarct"]),
    )
    def report(self, number, upload, action, diagnosis):
        user = self.pick(number)
        details = {} if diagnosis is None else {"diagnosis": diagnosis}
        record(actor=user, action=action, resource=("upload", f"u{upload}"), details=details)
        self.events.append((user.pk, f"u{upload}", self.now, action, diagnosis))

    @precondition(lambda self: self.users)
    @rule(number=st.integers(0, 2), address=st.sampled_from(ADDRESSES))
    def change_and_undo(self, number, address):
        known = len(self.changes)
        self.change(number, address)
        if len(self.changes) > known:
            self.undo(known)

    @rule()
    def pull(self):
        uploads_pull()

    @rule()
    def run_pull_all(self):
        run_jobs(PULL_ALL_JOB)

    @rule()
    def fold(self):
        changes_fold()

    @rule()
    def check(self):
        assert rollups_check() == 0, "nothing ever needs repair"

    @rule()
    def rebuild(self):
        facts_clear()
        rebuild_run(restart=True)

    @rule(days=st.sampled_from([1, 8]))
    def days_pass(self, days):
        self.clock.shift(timedelta(days=days))

    @invariant()
    def total_equals_facts(self):
        from myometrics_analytics.selectors import report_get

        assert report_get(days=1)["system_health"]["total_uploads"] == Upload.objects.count()

    @rule()
    def settle(self):
        """Without pending jobs, the facts are those of the model."""
        run_jobs(PULL_ALL_JOB)
        uploads_pull()
        assert not Job.objects.pending().filter(kind=PULL_ALL_JOB).exists()
        assert facts() == self.expected()
        changes_fold()
        assert rollups_check() == 0
        assert sum(DailyRollup.objects.values_list("uploads", flat=True)) == len(facts())
        assert sum(UserRollup.objects.values_list("uploads", flat=True)) == len(facts())

    def expected(self):
        """Every report that names an existing user, merged by hand."""
        found: dict[tuple, list] = {}
        for row in self.rows:
            name = row["user_id"]
            moment = datetime.fromisoformat(row["upload_time"])
            user = int(name) if name.isdigit() else self.model.owner(name.lower(), moment)
            reported = (DETAILS[row["status"]], 1, row["diagnosis"])
            found.setdefault((user, row["upload_id"]), []).append(reported)
        for user, upload, _, action, diagnosis in self.events:
            reported = (Status.PROCESSING, 3, diagnosis)
            if action == "upload_failed":
                reported = (Status.FAILED, 2, None)
            elif diagnosis:
                reported = (Status.COMPLETED, 3, diagnosis)
            found.setdefault((user, upload), []).append(reported)
        order = ["processing", "failed", "completed"]
        merged = []
        for (user, upload), reports in found.items():
            if user not in self.users:
                continue
            status = max((str(one[0].value) for one in reports), key=order.index)
            best = min(((-rank, text) for _, rank, text in reports if text), default=(0, ""))
            merged.append((user, upload, status, best[1]))
        return sorted(merged)


def test_facts_are_exact_in_any_order_of_events(service):
    run_state_machine_as_test(
        AnyOrder,
        settings=settings(
            max_examples=40,
            stateful_step_count=25,
        ),
    )


def test_upload_under_a_verified_address_belongs_to_its_user(service, clock):
    user, other = make("Jane@clinic.example"), make("other@clinic.example")
    verify(user)
    service += [
        service_row("JANE@Clinic.example", "u1", START - timedelta(days=900)),
        service_row("other@clinic.example", "u2", START),
        service_row("nobody@clinic.example", "u3", START),
        service_row(other.pk, "u4", START),
    ]
    report = uploads_pull()
    assert (report.created, report.unknown_users) == (2, 2)
    found = [(user.pk, "u1", "completed", "Normal"), (other.pk, "u4", "completed", "Normal")]
    assert facts() == sorted(found)


def test_verification_queues_one_complete_pull(service, clock):
    users = [make(f"p{number}@clinic.example") for number in range(3)]
    service += [service_row(user.email, "u1", START) for user in users]
    uploads_pull()
    assert facts() == []
    for user in users:
        verify(user)
    assert Job.objects.pending().filter(kind=PULL_ALL_JOB).count() == 1
    run_jobs(PULL_ALL_JOB)
    assert [fact[0] for fact in facts()] == [user.pk for user in users]


def test_uploads_after_a_move_have_no_owner_until_a_takeover(service, clock):
    first, second = make("a@clinic.example"), make("second@clinic.example")
    verify(first)
    clock.shift(timedelta(days=1))
    change_address(first, "b@clinic.example")
    clock.shift(timedelta(days=8))  # no longer reserved for an undo
    user_update(actor=None, user_id=second.pk, changes={"email": "a@clinic.example"}, request=None)
    verify(second)
    for hours in (-1, 23, 24, 100, 215, 216):
        moment = START + timedelta(hours=hours)
        service.append(service_row("a@clinic.example", f"u{hours}", moment))
    run_jobs(PULL_ALL_JOB)
    assert {fact[:2] for fact in facts()} == {
        (first.pk, "u-1"),
        (first.pk, "u23"),
        (second.pk, "u216"),
    }


def test_undo_takes_back_uploads_of_the_address_in_between(service, clock):
    user = make("a@clinic.example")
    verify(user)
    record(actor=user, action="upload_created", resource=("upload", "both"))
    clock.shift(timedelta(hours=1))
    change = change_address(user, "b@clinic.example")
    clock.shift(timedelta(hours=1))
    moment = datetime.now(timezone.utc)
    service += [
        service_row("b@clinic.example", "both", moment),
        service_row("b@clinic.example", "theirs", moment),
        service_row("a@clinic.example", "own", moment),
    ]
    run_jobs(PULL_ALL_JOB)
    assert [fact[1:3] for fact in facts()] == [("both", "completed"), ("theirs", "completed")]
    clock.shift(timedelta(hours=1))
    undo(change)
    run_jobs(PULL_ALL_JOB)
    assert [fact[1:3] for fact in facts()] == [("both", "processing"), ("own", "completed")]
    assert UploadReport.objects.count() == 1
    changes_fold()
    assert rollups_check() == 0


def test_next_owner_gets_no_upload_of_an_erased_user(service, clock):
    first = make("a@clinic.example")
    verify(first)
    service.append(service_row("a@clinic.example", "u1", START))
    uploads_pull()
    clock.shift(timedelta(hours=1))
    user_delete(actor=None, user_id=first.pk, request=None)
    assert facts() == []
    clock.shift(timedelta(hours=1))
    second = make("a@clinic.example")
    verify(second)
    service.append(service_row("a@clinic.example", "u2", datetime.now(timezone.utc)))
    run_jobs(PULL_ALL_JOB)
    assert [fact[:2] for fact in facts()] == [(second.pk, "u2")]


@pytest.mark.parametrize("known", [True, False])
def test_a_page_of_addresses_costs_a_constant_number_of_queries(service, clock, known):
    def pull_of(count):
        service[:] = [
            service_row(f"p{number}@clinic.example", f"u{number}", START) for number in range(count)
        ]
        if known:
            uploads_pull()
        with CaptureQueriesContext(connection) as captured:
            uploads_pull()
        return len(captured)

    for number in range(40):
        verify(make(f"p{number}@clinic.example"))
    uploads_pull()  # creates the rows of the job and its state
    few = pull_of(2)
    Upload.objects.all().delete()
    UploadReport.objects.all().delete()
    assert pull_of(40) == few


def test_model_agrees_on_a_change_and_its_undo(service):
    machine = AnyOrder()
    try:
        machine.begin()
        machine.change(0, ADDRESSES[2])
        assert len(machine.changes) == 1
        machine.settle()
        machine.tick()
        machine.undo(0)
        assert not EmailChange.objects.exists()
    finally:
        machine.teardown()
