"""Findings, reviews and the examination: decisions, races, restarts, mails, metrics."""

from __future__ import annotations

import io
import json
from datetime import date, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core import mail, serializers
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from myometrics_audit.models import AuditLog
from myometrics_audit.review import gauges, rules, scanning
from myometrics_audit.review.checks import check_hooks, check_rule_names
from myometrics_audit.review.doctor import examine_review
from myometrics_audit.review.emergency_access import (
    grant_emergency_access,
    overdue_emergency_accesses,
)
from myometrics_audit.review.findings import finding_assign, finding_decide, findings_open
from myometrics_audit.review.jobs import ALARM_JOB, DIGEST_JOB, SCAN_JOB
from myometrics_audit.review.mails import REVIEW_MAIL_JOB
from myometrics_audit.review.models import (
    EmergencyAccess,
    Finding,
    Review,
    RuleState,
    ScanPosition,
)
from myometrics_audit.review.reviews import review_sign_off, validate_period
from myometrics_audit.review.rules import (
    Hit,
    Rule,
    describe_finding,
    register_rule,
    registered_rules,
)
from myometrics_audit.sealing import seal_pending
from myometrics_core.jobs import run_all_jobs, run_job, run_jobs
from myometrics_core.observability.metrics import registered_gauges
from myometrics_core.users import account_pseudonym
from myometrics_testing.site_processes import SiteProcesses
from myometrics_testing.waiting import wait_for

MONDAY = datetime(2026, 11, 2, 9, 0, tzinfo=timezone.utc)
State = Finding.State


def vip(data_subjects):
    return data_subjects & {"chancellor"}


@pytest.fixture(autouse=True)
def _vip_rule(settings):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "REVIEW_VIP": vip}


@pytest.fixture
def reviewer(django_user_model):
    """A user who decides findings."""
    user = django_user_model.objects.create_user(email="rita@clinic.example", password="pw")
    user.user_permissions.add(Permission.objects.get(codename="decide_finding"))
    return user


def delete_during_examination(user, monkeypatch):
    """Delete the user after the next batch is examined, before its findings are written."""
    examine = scanning._hits

    def examine_and_delete(*arguments):
        hits = list(examine(*arguments))
        type(user).objects.filter(pk=user.pk).delete()
        return hits

    monkeypatch.setattr(scanning, "_hits", examine_and_delete)


@pytest.fixture
def find(write):
    """A function that writes a reported access, and returns its finding."""

    def make(rule="", **fields):
        write(**{"timestamp": MONDAY, "data_subject": "chancellor", **fields})
        list(seal_pending())
        list(scanning.scan_pending())
        return Finding.objects.filter(rule__contains=rule).order_by("pk").last()

    return make


def actions():
    return list(AuditLog.objects.order_by("id").values_list("action", flat=True))


@pytest.mark.django_db
def test_finding_and_decision_are_entries(find, reviewer):
    finding = find()
    finding_assign(finding=finding, actor=reviewer)
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason=" on duty ")
    finding.refresh_from_db()
    assert (finding.assignee, finding.decided_by) == (reviewer, reviewer)
    assert (finding.state, finding.reason) == ("dismissed", "on duty")
    opened, decided = AuditLog.objects.filter(resource_type="finding").order_by("id")
    assert (opened.action, opened.user, decided.action) == (
        "finding_opened",
        None,
        "finding_decided",
    )
    assert decided.user == reviewer
    assert decided.details == {"rule": "vip", "state": "dismissed"}
    assert opened.data_subject == decided.data_subject == ""


@pytest.mark.django_db
def test_entries_of_the_review_are_not_findings(find, reviewer):
    finding = find()
    finding_decide(finding=finding, actor=reviewer, state=State.CONFIRMED, reason="")
    list(seal_pending())
    list(scanning.scan_pending())
    assert Finding.objects.count() == 1


@pytest.mark.django_db
def test_later_entries_are_added_to_an_open_finding(find):
    finding = find()
    assert find().pk == finding.pk
    finding.refresh_from_db()
    assert finding.entry_count == len(finding.entries) == 2
    assert actions().count("finding_opened") == 1


@pytest.mark.django_db
def test_entries_after_the_decision_open_another_finding(find, reviewer):
    finding = find()
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    second = find()
    assert (second.key, second.number, second.entry_count) == (finding.key, 2, 1)


@pytest.mark.django_db
def test_entry_that_a_period_has_reported_is_not_reported_again(write, reviewer):
    write(timestamp=MONDAY, data_subject="chancellor")
    list(scanning.scan_period(MONDAY, MONDAY + timedelta(hours=1)))
    finding = Finding.objects.get()
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    list(seal_pending())
    list(scanning.scan_pending())
    assert Finding.objects.count() == 1


@pytest.fixture
def examine_period():
    """A function that examines the period of the tests again."""
    return lambda: list(scanning.scan_period(MONDAY, MONDAY + timedelta(hours=1)))


@pytest.mark.django_db
def test_period_adds_nothing_that_an_earlier_finding_has(find, reviewer, examine_period):
    finding = find()
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    second = find()
    for decided in (False, True):
        if decided:
            finding_decide(finding=second, actor=reviewer, state=State.DISMISSED, reason="known")
        examine_period()
        counts = Finding.objects.order_by("number").values_list("number", "entry_count")
        assert list(counts) == [(1, 1), (2, 1)]


@pytest.mark.django_db
def test_period_reports_what_a_decided_finding_does_not_have(find, reviewer, write, examine_period):
    finding = find()
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    entry = write(timestamp=MONDAY, data_subject="chancellor")
    examine_period()
    assert Finding.objects.get(number=2).entries == [entry.pk]
    list(seal_pending())
    list(scanning.scan_pending())
    assert Finding.objects.filter(rule="vip").count() == 2


@pytest.mark.django_db
def test_entries_beyond_the_list_of_a_period_are_not_reported_again(
    find, reviewer, write, examine_period
):
    for _ in range(130):
        write(timestamp=MONDAY, data_subject="chancellor")
    examine_period()
    finding = Finding.objects.get(rule="vip")
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    assert find(rule="vip").number == 2
    examine_period()
    counts = Finding.objects.filter(rule="vip").order_by("number")
    assert list(counts.values_list("number", "entry_count")) == [(1, 130), (2, 1)]


@pytest.mark.django_db
def test_entries_after_the_decision_of_a_full_finding_are_reported(find, reviewer, write):
    for _ in range(130):
        write(timestamp=MONDAY, data_subject="chancellor")
    finding = find()
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    assert (finding.entry_count, find(rule="vip").number) == (131, 2)


@pytest.mark.django_db
def test_listed_entry_is_counted_once_in_a_full_finding(write):
    change = write(timestamp=MONDAY, resource_type="user", action="user_updated")
    rule = registered_rules()["export_after_role_change"]
    entries = [write(timestamp=MONDAY, action="data_exported") for _ in range(110)]
    hits = [
        (rule, Hit(key="k", entry=one, user_id=None, other_entries=(change.pk,))) for one in entries
    ]
    (finding,) = findings_open(hits, using="default")
    assert (finding.entry_count, len(finding.entries)) == (111, 100)


@pytest.mark.django_db
def test_dismissal_needs_a_reason(find, reviewer):
    with pytest.raises(ValidationError, match="reason"):
        finding_decide(finding=find(), actor=reviewer, state=State.DISMISSED, reason="  ")
    with pytest.raises(ValueError, match="confirmed"):
        finding_decide(finding=find(), actor=reviewer, state=State.OPEN, reason="no")


@pytest.mark.django_db
def test_finding_about_oneself_is_decided_by_another(find, user):
    finding = find()
    with pytest.raises(ValidationError, match="yourself"):
        finding_decide(finding=finding, actor=user, state=State.DISMISSED, reason="me")
    with pytest.raises(ValidationError, match="yourself"):
        finding_assign(finding=finding, actor=user)


@pytest.mark.django_db
def test_deleted_user_is_removed_from_findings_and_states(find, user, write):
    finding = find()
    find(action="login_failed", user=None, resource_id=account_pseudonym(user.email))
    assert RuleState.objects.count() == 2
    user.delete()
    finding.refresh_from_db()
    assert finding.user is None
    assert finding.key == f"deleted:{finding.pk}"
    assert not RuleState.objects.exists()


@pytest.mark.django_db
def test_retained_entries_of_findings_don_t_identify_a_deleted_user(
    find, user, settings, examine_period, django_user_model
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    find()
    other = django_user_model.objects.create_user(email="kim@clinic.example")
    theirs = find(user=other)
    user.delete()
    examine_period()
    mine, theirs_now = Finding.objects.filter(rule="vip").order_by("pk")
    assert (mine.user, mine.key) == (None, f"deleted:{mine.pk}")
    assert theirs_now.key == theirs.key
    opened = AuditLog.objects.filter(action="finding_opened")
    assert {json.dumps(entry.details) for entry in opened} == {'{"rule": "vip"}'}


@pytest.mark.django_db
@pytest.mark.parametrize("is_changed", [False, True])
def test_state_of_a_user_deleted_during_the_examination_is_not_written(
    write, user, monkeypatch, is_changed
):
    if is_changed:
        details = {"changed": {"role": {}}}
        target = {"resource_type": "user", "resource_id": str(user.pk), "details": details}
        write(user=None, action="user_updated", **target)
    else:
        write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    delete_during_examination(user, monkeypatch)
    next(scanning.scan_pending())
    assert not RuleState.objects.exists()
    assert not Finding.objects.exists()


@pytest.mark.django_db
def test_retained_entries_of_a_deleted_user_are_examined(find, user, settings):
    settings.MYOMETRICS_AUDIT = {
        **settings.MYOMETRICS_AUDIT,
        "ON_USER_DELETE": "retain",
        "REVIEW_WORKING_HOURS": {"days": [], "from": "07:00", "to": "19:00"},
    }
    find(data_subject="p1")
    for second in range(51):
        AuditLog.objects.create(
            user=user,
            action="record_viewed",
            resource_type="record",
            resource_id="1",
            data_subject="chancellor",
            timestamp=MONDAY + timedelta(seconds=second),
        )
    type(user).objects.filter(pk=user.pk).delete()
    list(seal_pending())
    list(scanning.scan_pending())
    pseudonym = AuditLog.objects.filter(data_subject="chancellor")[0].pseudonym
    found = Finding.objects.filter(key__startswith=pseudonym).order_by("rule")
    assert list(found.values_list("rule", "user", "entry_count")) == [
        ("outside_hours", None, 51),
        ("unusual_volume", None, 1),
        ("vip", None, 51),
    ]


@pytest.mark.django_db
def test_user_deleted_during_the_examination_is_reported_by_the_pseudonym(
    write, user, settings, monkeypatch
):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": "retain"}
    entry = write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    delete_during_examination(user, monkeypatch)
    list(scanning.scan_pending())
    finding = Finding.objects.get(rule="vip")
    entry.refresh_from_db()
    assert finding.entries == [entry.pk]
    assert finding.key.startswith(entry.pseudonym)
    assert not RuleState.objects.filter(key=str(user.pk)).exists()


@pytest.mark.django_db(transaction=True)
def test_concurrent_deletion_leaves_no_state_and_no_key(find, write, user, run_concurrently):
    find()
    write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    calls = iter(range(4))

    def act():
        if next(calls) % 2:
            list(scanning.scan_pending())
        else:
            type(user).objects.filter(pk=user.pk).delete()

    assert not [one for one in run_concurrently(act, times=4) if isinstance(one, Exception)]
    assert not RuleState.objects.exists()
    assert {finding.key for finding in Finding.objects.all()} <= {
        f"deleted:{finding.pk}" for finding in Finding.objects.all()
    }


@pytest.mark.django_db
def test_sign_off_needs_every_finding_decided(find, reviewer):
    finding = find()
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    soon = time_machine.travel(MONDAY + timedelta(days=3))
    with soon, pytest.raises(ValidationError, match="not over"):
        review_sign_off(review=review, actor=reviewer)
    with time_machine.travel(MONDAY + timedelta(days=30)):
        with pytest.raises(ValidationError, match="1 findings are open"):
            review_sign_off(review=review, actor=reviewer)
        finding.refresh_from_db()
        assert finding.review is None
        finding_decide(finding=finding, actor=reviewer, state=State.CONFIRMED, reason="")
        list(seal_pending())
        list(scanning.scan_pending())
        review_sign_off(review=review, actor=reviewer, comment="all clear")
        with pytest.raises(ValidationError, match="signed off already"):
            review_sign_off(review=review, actor=reviewer)
        with pytest.raises(ValidationError, match="signed off"):
            finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="oh")
    assert (review.signed_by, review.comment) == (reviewer, "all clear")
    entry = AuditLog.objects.get(action="review_signed_off")
    assert entry.details == {
        "start": "2026-11-02",
        "end": "2026-11-08",
        "findings": 1,
        "comment": "all clear",
    }


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_period_is_over_at_midnight_in_the_zone_of_the_site(reviewer, settings, zone):
    settings.TIME_ZONE = zone
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    midnight = datetime(2026, 11, 9, tzinfo=ZoneInfo(zone))
    before = time_machine.travel(midnight - timedelta(seconds=1), tick=False)
    with before, pytest.raises(ValidationError, match="not over"):
        review_sign_off(review=review, actor=reviewer)
    with time_machine.travel(midnight, tick=False):
        review_sign_off(review=review, actor=reviewer)


@pytest.mark.django_db
def test_review_that_overlaps_another_is_not_signed_off(reviewer):
    """Two reviewers may add them at the same moment."""
    days = [date(2026, 11, day) for day in (2, 8, 9)]
    review, other = (Review.objects.create(start=start, end=days[2]) for start in days[:2])
    with time_machine.travel(MONDAY + timedelta(days=30)):
        with pytest.raises(ValidationError, match="Another review"):
            review_sign_off(review=review, actor=reviewer)
        Review.objects.filter(pk=other.pk).update(start=days[2] + timedelta(days=1))
        review_sign_off(review=review, actor=reviewer)


@pytest.mark.django_db
def test_last_day_of_the_calendar_is_not_over(reviewer):
    review = Review.objects.create(start=date(2026, 11, 2), end=date.max)
    with pytest.raises(ValidationError, match="not over"):
        review_sign_off(review=review, actor=reviewer)


@pytest.mark.django_db
def test_sign_off_checks_the_days_that_are_stored(find, reviewer):
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    Review.objects.update(end=date(2026, 11, 29))
    soon = time_machine.travel(MONDAY + timedelta(days=10))
    with soon, pytest.raises(ValidationError, match="not over"):
        review_sign_off(review=review, actor=reviewer)
    review.refresh_from_db()
    assert review.signed_at is None


@pytest.mark.django_db
def test_decision_covers_only_entries_that_were_seen(find, reviewer):
    finding = find()
    find()
    with pytest.raises(ValidationError, match="new entries"):
        finding_decide(finding=finding, actor=reviewer, state=State.CONFIRMED, reason="")
    decision = {"finding": finding, "actor": reviewer, "state": State.CONFIRMED, "reason": ""}
    with pytest.raises(ValidationError, match="new entries"):
        finding_decide(**decision, entry_count=1)
    finding_decide(**decision, entry_count=2)
    finding.refresh_from_db()
    assert finding.state == "confirmed"


@pytest.mark.django_db(transaction=True)
def test_of_concurrent_decisions_the_first_stays(find, reviewer, run_concurrently):
    finding = find()

    def decide():
        own = Finding(pk=finding.pk, rule="vip", entry_count=1)
        finding_decide(finding=own, actor=reviewer, state=State.CONFIRMED, reason="")

    results = run_concurrently(decide, times=5)
    refused = [str(result) for result in results if isinstance(result, ValidationError)]
    assert (len(refused), results.count(None)) == (4, 1)
    assert all("is decided" in text for text in refused)
    assert AuditLog.objects.filter(action="finding_decided").count() == 1


@pytest.mark.django_db
def test_sign_off_needs_every_entry_examined(write, reviewer):
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    write(timestamp=MONDAY)
    for seal in (False, True):
        with time_machine.travel(MONDAY + timedelta(days=30)):
            if seal:
                list(seal_pending())
            with pytest.raises(ValidationError, match="not examined"):
                review_sign_off(review=review, actor=reviewer)
    list(scanning.scan_pending())
    with time_machine.travel(MONDAY + timedelta(days=30)):
        review_sign_off(review=review, actor=reviewer)


@pytest.mark.django_db
def test_late_finding_belongs_to_the_next_review(find, reviewer):
    first = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    second = Review.objects.create(start=date(2026, 11, 9), end=date(2026, 11, 15))
    with time_machine.travel(MONDAY + timedelta(days=30)):
        review_sign_off(review=first, actor=reviewer)
        list(seal_pending())
        find()
        with pytest.raises(ValidationError, match="1 findings are open"):
            review_sign_off(review=second, actor=reviewer)


@pytest.mark.django_db
def test_periods_of_reviews_are_apart():
    Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    validate_period(Review(start=date(2026, 11, 9), end=date(2026, 11, 9)))
    for days in ((8, 9), (1, 2), (3, 4), (1, 30)):
        start, end = (date(2026, 11, day) for day in days)
        with pytest.raises(ValidationError, match="Another review"):
            validate_period(Review(start=start, end=end))
    with pytest.raises(ValidationError, match="before the first"):
        validate_period(Review(start=date(2026, 11, 20), end=date(2026, 11, 19)))


@pytest.mark.django_db
def test_period_counts_more_entries_than_a_finding_lists(write, monkeypatch):
    for _ in range(130):
        write(timestamp=MONDAY, data_subject="chancellor")
    monkeypatch.setattr(scanning, "BATCH_SIZE", 60)
    for _ in range(2):
        list(scanning.scan_period(MONDAY, MONDAY + timedelta(hours=1)))
        finding = Finding.objects.get(rule="vip")
        assert (finding.entry_count, len(finding.entries)) == (130, 100)


@pytest.mark.django_db(transaction=True)
def test_concurrent_examinations_of_both_kinds_report_once(write, run_concurrently):
    for minute in range(40):
        write(timestamp=MONDAY + timedelta(minutes=minute), data_subject="chancellor")
    list(seal_pending())
    calls = iter(range(6))

    def scan():
        if next(calls) % 2:
            list(scanning.scan_pending())
        else:
            list(scanning.scan_period(MONDAY, MONDAY + timedelta(hours=1)))

    assert all(not isinstance(result, Exception) for result in run_concurrently(scan, times=6))
    assert Finding.objects.get().number == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_examinations_report_once(write, run_concurrently):
    for minute in range(40):
        write(timestamp=MONDAY + timedelta(minutes=minute), data_subject="chancellor")
    list(seal_pending())
    run_concurrently(lambda: list(scanning.scan_pending()), times=6)
    finding = Finding.objects.get()
    assert (finding.entry_count, finding.number) == (40, 1)
    assert actions().count("finding_opened") == 1


@pytest.mark.django_db(transaction=True)
def test_concurrent_decision_and_sign_off_leave_no_open_finding(find, reviewer, run_concurrently):
    finding = find()
    list(seal_pending())
    list(scanning.scan_pending())
    review = Review.objects.create(start=date(2026, 11, 2), end=date(2026, 11, 8))
    calls = iter(range(6))

    def act():
        if next(calls) % 2:
            finding_decide(finding=finding, actor=reviewer, state=State.CONFIRMED, reason="")
        else:
            review_sign_off(review=review, actor=reviewer)

    run_concurrently(act, times=6)
    review.refresh_from_db()
    finding.refresh_from_db()
    signed = actions().count("review_signed_off")
    assert signed == (review.signed_at is not None)
    assert finding.state == State.CONFIRMED
    assert (finding.review_id is not None) == bool(signed)


@pytest.mark.django_db(transaction=True)
def test_deciding_while_the_reviewer_is_deleted_is_no_deadlock(find, reviewer, run_concurrently):
    finding = find()
    finding_assign(finding=finding, actor=reviewer)
    calls = iter(range(6))

    def act():
        if next(calls) % 3 == 2:
            type(reviewer).objects.filter(pk=reviewer.pk).delete()
        else:
            finding_decide(finding=finding, actor=reviewer, state=State.CONFIRMED, reason="")

    results = run_concurrently(act, times=6)
    assert not [one for one in results if isinstance(one, OperationalError)]
    finding.refresh_from_db()
    assert (finding.assignee, finding.decided_by) == (None, None)


class StopsAt(Rule):
    """Fails at its second batch, as a killed process would."""

    name = "stops"
    title = "Stops"
    memory = timedelta(days=1)
    batches = 0

    def examine(self, batch):
        type(self).batches += 1
        if type(self).batches == 2:
            raise KeyboardInterrupt
        state = batch.states(self, {"all"})["all"]
        for entry in batch.entries:
            state["count"] = state.get("count", 0) + 1
            yield Hit(key=str(entry.id), entry=entry, user_id=entry.user_id, details=dict(state))


@pytest.mark.django_db
def test_stopped_examination_loses_and_repeats_nothing(write, monkeypatch):
    for _ in range(10):
        write(timestamp=MONDAY)
    list(seal_pending())
    monkeypatch.setattr(scanning, "BATCH_SIZE", 4)
    monkeypatch.setattr(StopsAt, "batches", 0)
    monkeypatch.setattr(rules, "_rules", rules.registered_rules())
    register_rule(StopsAt())
    with pytest.raises(KeyboardInterrupt):
        list(scanning.scan_pending())
    assert Finding.objects.count() == 4
    list(scanning.scan_pending())
    counts = [finding.details["count"] for finding in Finding.objects.filter(rule="stops")]
    assert sorted(counts)[:10] == list(range(1, 11))


@pytest.mark.django_db
def test_late_commit_with_a_lower_id_is_examined(write):
    first = write(timestamp=MONDAY, data_subject="p1")
    AuditLog.objects.bulk_create(
        [
            AuditLog(
                pk=first.pk + 10, action="a", resource_type="t", resource_id="1", user=first.user
            )
        ]
    )
    list(seal_pending())
    list(scanning.scan_pending())
    late = AuditLog(
        pk=first.pk + 5,
        user=first.user,
        action="a",
        resource_type="t",
        resource_id="1",
        timestamp=MONDAY,
        data_subject="chancellor",
    )
    AuditLog.objects.bulk_create([late])
    list(seal_pending())
    list(scanning.scan_pending())
    assert Finding.objects.get().entries == [first.pk + 5]


@pytest.mark.django_db
def test_command_examines_pending_entries_and_periods(write, settings):
    write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    assert review() == "Examined 1 entries. New findings: 1.\n"
    assert review("--since", "2026-11-02", "--until", "2026-11-02", "--json") == (
        '{"entries": 1, "findings": 0}\n'
    )
    Finding.objects.all().delete()
    again = json.loads(review("--since", "2026-11-02", "--until", "2026-11-02", "--json"))
    assert again == {"entries": 1, "findings": 1}
    for wrong in (("--until", "2026-11-02"), ("--since", "2026-11-03", "--until", "2026-11-01")):
        with pytest.raises(CommandError):
            review(*wrong)


def review(*options):
    out = io.StringIO()
    call_command("audit_review", *options, stdout=out)
    return out.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_command_accepts_the_whole_calendar_as_period(write, settings, zone):
    settings.TIME_ZONE = zone
    write(timestamp=MONDAY, data_subject="chancellor")
    out = io.StringIO()
    call_command("audit_review", "--since=0001-01-01", "--until=9999-12-31", stdout=out)
    assert "New findings: 1." in out.getvalue()


@pytest.mark.django_db
def test_job_examines_the_log(write):
    write(timestamp=MONDAY, data_subject="chancellor")
    list(seal_pending())
    run_all_jobs()
    run_job(SCAN_JOB, now=True)
    assert Finding.objects.count() == 1


@pytest.mark.django_db
def test_expired_states_are_deleted_in_the_time_of_the_entries(find, write):
    find(timestamp=MONDAY - timedelta(days=400))
    run_all_jobs()
    run_job(DIGEST_JOB, now=True)
    assert RuleState.objects.count() == 1  # the log is not examined further than that
    find(user=None)
    write(user=None, timestamp=MONDAY)
    list(seal_pending())
    list(scanning.scan_pending())
    run_job(DIGEST_JOB, now=True)
    assert RuleState.objects.count() == 0


@pytest.mark.django_db
def test_digest_has_numbers_and_no_patient_data(find, reviewer, user):
    user.email = "tina.nosy@clinic.example"
    user.save()
    run_all_jobs()
    find()
    mail.outbox.clear()
    run_job(DIGEST_JOB, now=True)
    run_jobs(REVIEW_MAIL_JOB)
    (message,) = mail.outbox
    assert message.to == [reviewer.email]
    assert "Access to a person on the VIP list: 1" in message.body
    assert not {"chancellor", "nosy", str(user.pk)} & set(message.body.split())
    run_job(DIGEST_JOB, now=True)
    run_jobs(REVIEW_MAIL_JOB)


@pytest.mark.django_db
def test_emergency_access_that_is_not_reviewed_raises_one_alarm(user, reviewer):
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    run_all_jobs()
    run_jobs(REVIEW_MAIL_JOB)  # of the digest
    mail.outbox.clear()
    assert gauges.open_findings_by_rule()["emergency_access"] == 1
    with time_machine.travel(grant.granted_at + timedelta(days=3, minutes=1)):
        assert overdue_emergency_accesses().count() == 1
        states = {found.summary: found.state for found in examine_review()}
        assert states["1 emergency accesses were not reviewed in time."] == "problem"
        for _ in range(2):
            run_job(ALARM_JOB, now=True)
            run_jobs(REVIEW_MAIL_JOB)
        assert [message.to for message in mail.outbox] == [[reviewer.email]]
        assert "1 emergency access was not reviewed in time." in mail.outbox[0].body
        assert "unconscious" not in mail.outbox[0].body
        finding_decide(finding=grant.finding, actor=reviewer, state=State.DISMISSED, reason="ok")
        assert overdue_emergency_accesses().count() == 0


@pytest.mark.django_db
def test_alarm_waits_for_the_first_active_reviewer(user, reviewer, django_user_model):
    reviewer.is_active = False
    reviewer.save()
    django_user_model.objects.create_superuser(email="root@clinic.example", password="pw")
    grant = grant_emergency_access(user, "p1", "unconscious", 30)
    run_all_jobs()
    with time_machine.travel(grant.granted_at + timedelta(days=3, minutes=1)):
        run_job(ALARM_JOB, now=True)
        grant.refresh_from_db()
        assert grant.alarmed_at is None
        reviewer.is_active = True
        reviewer.save()
        mail.outbox.clear()
        run_job(ALARM_JOB, now=True)
        run_jobs(REVIEW_MAIL_JOB)
    assert [message.to for message in mail.outbox] == [[reviewer.email]]


@pytest.mark.django_db
def test_any_text_survives_dumps_in_xml(user):
    grant = grant_emergency_access(user, " p\x0b1", "not\x1b\r\n conscious", 30)
    texts = {
        EmergencyAccess: ("data_subject", "reason"),
        Finding: ("key", "data_subject"),
    }
    rows = {model: model.objects.values_list(*names) for model, names in texts.items()}
    before = {model: list(found) for model, found in rows.items()}
    dumped = serializers.serialize("xml", [grant.finding, grant])
    EmergencyAccess.objects.update(data_subject="", reason="")
    Finding.objects.update(key="", data_subject="")
    for loaded in serializers.deserialize("xml", dumped):
        loaded.save()
    assert {model: list(found.all()) for model, found in rows.items()} == before


@pytest.mark.django_db
def test_gauges_count_findings_and_lag(find, write):
    names = {gauge.name for gauge in registered_gauges()}
    assert {
        "myometrics_open_findings",
        "myometrics_finding_age_seconds",
        "myometrics_emergency_access_overdue",
        "myometrics_review_lag_seconds",
    } <= names
    assert gauges.finding_age_seconds() == scanning.scan_lag_seconds() == 0
    finding = find()
    assert gauges.open_findings_by_rule()["vip"] == 1
    with time_machine.travel(finding.opened_at + timedelta(minutes=5), tick=False):
        assert gauges.finding_age_seconds() == 300
        list(seal_pending())
        write(timestamp=MONDAY)
        list(seal_pending())
        list(scanning.scan_pending())
        assert scanning.scan_lag_seconds() == 0
        write(timestamp=MONDAY)
        list(seal_pending())
    with time_machine.travel(finding.opened_at + timedelta(minutes=25), tick=False):
        assert scanning.scan_lag_seconds() == pytest.approx(1200, abs=0.01)
        assert "problem" in {found.state for found in examine_review()}


@pytest.mark.django_db
def test_findings_without_reviewers_are_a_warning(find, reviewer):
    finding = find()
    list(seal_pending())
    list(scanning.scan_pending())
    assert [found.state for found in examine_review()] == ["ok"]
    reviewer.user_permissions.clear()
    assert [found.state for found in examine_review()] == ["warning"]
    finding_decide(finding=finding, actor=reviewer, state=State.DISMISSED, reason="known")
    assert [found.state for found in examine_review()] == ["ok"]


@pytest.mark.django_db
def test_old_finding_is_a_warning(find, reviewer):
    finding = find()
    list(seal_pending())
    list(scanning.scan_pending())
    with time_machine.travel(finding.opened_at + timedelta(days=15)):
        assert "warning" in {found.state for found in examine_review()}


@pytest.mark.django_db
def test_installation_begins_after_existing_seals(write):
    ScanPosition.objects.all().delete()
    write(timestamp=MONDAY)
    list(seal_pending())
    migration = import_module("myometrics_audit.review.migrations.0001_initial")
    migration.start_at_newest_seal(apps, connection.schema_editor())
    assert list(scanning.scan_pending()) == []
    write(timestamp=MONDAY)
    list(seal_pending())
    assert [progress.entries for progress in scanning.scan_pending()] == [1]


@pytest.mark.parametrize(
    ("options", "check", "code"),
    [
        ({"REVIEW_RULES_OFF": ["vips"]}, check_rule_names, "myometrics_audit.W050"),
        ({"REVIEW_VIP": "myometrics_audit.conf.READS"}, check_hooks, "myometrics_audit.E051"),
    ],
)
def test_wrong_settings_are_reported(settings, options, check, code):
    assert list(check()) == []
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, **options}
    assert [message.id for message in check()] == [code]


@pytest.mark.parametrize(
    "hours",
    [
        {"days": [0], "from": "07:00"},
        {"days": [7], "from": "07:00", "to": "19:00"},
        {"days": [0], "from": "19:00", "to": "07:00"},
        {"days": [0], "from": "7:00", "to": "19:00"},
        {"days": [0], "from": "07:00", "to": "19:00", "time_zone": "Mars/Base"},
    ],
)
def test_wrong_working_hours_are_reported(settings, hours):
    from myometrics_audit.conf import audit_settings

    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "REVIEW_WORKING_HOURS": hours}
    assert [message.id for message in audit_settings.check()] == ["myometrics_audit.E003"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(registered_rules()))
def test_every_rule_describes_its_findings(name):
    details = {
        "last": "2026-11-02T22:14+01:00",
        "accesses": 51,
        "limit": 50,
        "failures": 5,
        "deactivated": True,
        "minutes": 30,
    }
    text = describe_finding(Finding(rule=name, details=details))
    assert text.startswith(str(registered_rules()[name].title))
    assert describe_finding(Finding(rule="of another release")) == "of another release"


@pytest.mark.any_database
def test_killed_examination_continues(tmp_path):
    script = Path(__file__).with_name("review_process.py")
    with SiteProcesses(script, tmp_path) as site:
        site.run("fill")
        process = site.start("audit_review")
        wait_for(lambda: site.notes)
        site.kill(process)
        findings, entries = Finding._meta.db_table, AuditLog._meta.db_table
        count = f"SELECT count(*), sum(entry_count) FROM {findings} WHERE rule = 'vip'"
        assert site.execute(count) == [(100, 100)]
        site.go()
        site.run("audit_review")
        assert site.execute(count) == [(120, 240)]
        opened = f"SELECT count(*) FROM {entries} WHERE action = 'finding_opened'"
        assert site.execute(opened) == site.execute(f"SELECT count(*) FROM {findings}")
        # The volume of the hour was counted once: its rule reports the entries above 50.
        volume = f"SELECT entry_count FROM {findings} WHERE rule = 'unusual_volume'"
        assert site.execute(volume) == [(190,)]
