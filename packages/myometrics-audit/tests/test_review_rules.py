"""Rules of the review: what each reports, in whichever batches the log is examined."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from myometrics_audit.models import AuditLog
from myometrics_audit.review.built_in_rules import (
    ExportAfterRoleChange,
    FailedSignIns,
    InactiveUser,
    UnusualVolume,
    emergency_spans,
)
from myometrics_audit.review.emergency_access import grant_emergency_access
from myometrics_audit.review.models import Finding
from myometrics_audit.review.rules import Access, Batch, Entry
from myometrics_audit.review.scanning import scan_pending
from myometrics_audit.review.states import States
from myometrics_audit.sealing import seal_pending
from myometrics_core.users import account_pseudonym

pytestmark = pytest.mark.django_db
MONDAY = datetime(2026, 11, 2, 9, 0, tzinfo=timezone.utc)
HOURS = {"days": [0, 1, 2, 3, 4], "from": "07:00", "to": "19:00", "time_zone": "Europe/Berlin"}


def related(accesses):
    return [access for access in accesses if access.data_subject == "cousin"]


def vip(data_subjects):
    return {"chancellor"} & data_subjects


def care_relation(accesses):
    return [access for access in accesses if access.data_subject != "not-in-care"]


def no_relation(accesses):
    return []


leaving_ids = set()


def leaving(user_ids):
    return leaving_ids & user_ids


@pytest.fixture
def configure(settings):
    def make(**options):
        settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, **options}

    return make


@pytest.fixture
def opened(write):
    """A function that examines what was written, and returns the new findings."""

    def examine(rule=None):
        list(seal_pending())
        before = set(Finding.objects.values_list("pk", flat=True))
        list(scan_pending())
        new = Finding.objects.exclude(pk__in=before)
        return list((new.filter(rule=rule) if rule else new).order_by("happened_at", "id"))

    return examine


def test_access_outside_working_hours_is_one_finding_a_day(write, opened, configure, user):
    configure(REVIEW_WORKING_HOURS=HOURS)
    write(timestamp=MONDAY, data_subject="p1")
    write(timestamp=MONDAY.replace(hour=18), data_subject="")  # no access to a data subject
    evening = [
        write(timestamp=MONDAY.replace(hour=18, minute=minute), data_subject="p1")
        for minute in (0, 30)
    ]
    write(timestamp=MONDAY.replace(hour=17, minute=59), data_subject="p1")  # 18:59 in Berlin
    saturday = write(timestamp=MONDAY + timedelta(days=5), data_subject="p2")
    first, second = opened()
    assert (first.rule, first.user, first.entry_count) == ("outside_hours", user, 2)
    assert first.entries == [entry.pk for entry in evening]
    assert second.entries == [saturday.pk]


@pytest.mark.parametrize(
    "action", ["emergency_access_ended", "legal_hold_placed", "legal_hold_released"]
)
def test_administration_is_no_access(write, opened, configure, action):
    configure(REVIEW_CARE_RELATION=no_relation, REVIEW_VIP=vip)
    write(timestamp=MONDAY, data_subject="chancellor", action=action)
    assert opened() == []


def test_rule_without_its_setting_is_not_applied(write, opened):
    write(timestamp=MONDAY.replace(hour=3), data_subject="chancellor")
    assert opened() == []


def test_rule_that_is_switched_off_is_not_applied(write, opened, configure):
    configure(REVIEW_WORKING_HOURS=HOURS, REVIEW_RULES_OFF=["outside_hours"])
    write(timestamp=MONDAY.replace(hour=3), data_subject="p1")
    assert opened() == []


def test_volume_over_the_minimum_is_reported_for_a_new_user(write, opened):
    for second in range(50):
        write(timestamp=MONDAY + timedelta(seconds=second), data_subject="p1")
    assert opened() == []
    entry = write(timestamp=MONDAY + timedelta(minutes=59), data_subject="p1")
    (finding,) = opened()
    assert (finding.rule, finding.entries) == ("unusual_volume", [entry.pk])
    assert finding.details == {"accesses": 51, "limit": 50}


def test_volume_is_compared_with_the_users_own_past(write, opened):
    for hour in range(4):  # 20 accesses an hour: the limit is 100
        for second in range(20):
            at = MONDAY + timedelta(days=-1, hours=hour, seconds=second)
            write(timestamp=at, data_subject="p1")
    for second in range(100):
        write(timestamp=MONDAY + timedelta(seconds=second), data_subject="p1")
    assert opened() == []
    write(timestamp=MONDAY + timedelta(minutes=10), data_subject="p1")
    assert [finding.details["limit"] for finding in opened()] == [100]


def test_past_of_more_than_28_days_is_ignored(write, opened):
    for hour in range(5):
        for second in range(40):
            at = MONDAY + timedelta(days=-40, hours=hour, seconds=second)
            write(timestamp=at, data_subject="p1")
    for second in range(51):
        write(timestamp=MONDAY + timedelta(seconds=second), data_subject="p1")
    assert [finding.details["limit"] for finding in opened()] == [50]


def test_late_entry_is_counted_in_its_own_hour(write, opened):
    for second in range(40):
        write(timestamp=MONDAY + timedelta(seconds=second), data_subject="p1")
    for second in range(40):
        write(timestamp=MONDAY + timedelta(hours=1, seconds=second), data_subject="p1")
    assert opened() == []
    late = [write(timestamp=MONDAY + timedelta(seconds=s), data_subject="p1") for s in range(11)]
    (finding,) = opened()
    assert finding.entries == [late[-1].pk]


@pytest.mark.parametrize(
    ("rule", "setting", "hook", "subject"),
    [
        ("same_name_or_address", "REVIEW_RELATED", related, "cousin"),
        ("vip", "REVIEW_VIP", vip, "chancellor"),
        ("no_care_relation", "REVIEW_CARE_RELATION", care_relation, "not-in-care"),
    ],
)
def test_hook_decides_on_pairs(write, opened, configure, user, rule, setting, hook, subject):
    configure(**{setting: hook})
    write(timestamp=MONDAY, data_subject="p1")
    reported = [write(timestamp=MONDAY, data_subject=subject) for _ in range(2)]
    write(timestamp=MONDAY, data_subject=subject, user=None)
    (finding,) = opened()
    assert (finding.rule, finding.user, finding.data_subject) == (rule, user, subject)
    assert finding.entries == [entry.pk for entry in reported]


def test_emergency_access_replaces_the_care_relation(write, opened, configure, user):
    configure(REVIEW_CARE_RELATION=no_relation)
    grant = grant_emergency_access(user, "p1", "unconscious", 60)
    write(timestamp=grant.granted_at + timedelta(minutes=1), data_subject="p1")
    assert opened("no_care_relation") == []
    write(timestamp=grant.expires_at, data_subject="p1")
    write(timestamp=grant.granted_at, data_subject="p2")
    assert {finding.data_subject for finding in opened("no_care_relation")} == {"p1", "p2"}


def test_only_grants_of_the_examined_time_are_loaded(write, opened, configure, user):
    configure(REVIEW_CARE_RELATION=no_relation)
    grant = grant_emergency_access(user, "p1", "unconscious", 60)
    grant_emergency_access(user, "p2", "unconscious", 60)
    access = Access(user.pk, "p1", MONDAY.date())
    for minutes, spans in [(30, {access: [(grant.granted_at, grant.expires_at)]}), (60, {})]:
        entry = write(timestamp=grant.granted_at + timedelta(minutes=minutes), data_subject="p1")
        assert emergency_spans({access: [entry]}) == spans


def failed(write, account, at, user=None):
    return write(
        user=user, action="login_failed", resource_type="user", resource_id=account, timestamp=at
    )


def test_sign_in_after_failed_ones_is_reported(write, opened, user):
    name = account_pseudonym(user.email)
    failures = [failed(write, name, MONDAY + timedelta(minutes=m)) for m in range(3)]
    failures += [
        failed(write, str(user.pk), MONDAY + timedelta(minutes=m), user=user) for m in (3, 4)
    ]
    failed(write, account_pseudonym("other@clinic.example"), MONDAY)
    at = MONDAY + timedelta(minutes=5)
    success = write(action="login_succeeded", timestamp=at)
    write(action="login_succeeded", timestamp=at)
    (finding,) = opened()
    assert (finding.rule, finding.user) == ("failed_sign_ins", user)
    assert finding.entries == [*(entry.pk for entry in failures), success.pk]


def test_users_without_addresses_can_sign_in(write, opened, user, monkeypatch):
    monkeypatch.setattr(type(user), "EMAIL_FIELD", "missing", raising=False)
    write(action="login_succeeded", timestamp=MONDAY)
    assert opened() == []


@pytest.mark.parametrize(("count", "minutes"), [(4, 1), (5, 16)])
def test_few_or_old_failed_sign_ins_are_not_reported(write, opened, user, count, minutes):
    for _ in range(count):
        failed(write, account_pseudonym(user.email), MONDAY)
    write(action="login_succeeded", timestamp=MONDAY + timedelta(minutes=minutes))
    assert opened() == []


@pytest.mark.parametrize(
    ("action", "kind", "details"),
    [
        ("user_updated", "user", {"changed": {"role": {"from": "doctor", "to": "admin"}}}),
        ("person_updated", "clinic_site.person", {"changes": {"is_staff": {"to": True}}}),
        ("person_updated", "clinic_site.person", {"changes": {"role_id": {"from": 1, "to": 2}}}),
    ],
)
def test_export_after_role_change_is_reported(write, opened, user, action, kind, details):
    change = write(
        user=None,
        action=action,
        resource_type=kind,
        resource_id=str(user.pk),
        details=details,
        timestamp=MONDAY,
    )
    export = write(action="data_exported", timestamp=MONDAY + timedelta(hours=23))
    (finding,) = opened()
    assert (finding.rule, finding.entries) == ("export_after_role_change", [change.pk, export.pk])
    write(action="data_exported", timestamp=MONDAY + timedelta(hours=25))
    assert opened() == []


def test_export_after_another_change_is_not_reported(write, opened, user):
    change = {"resource_type": "user", "resource_id": str(user.pk), "timestamp": MONDAY}
    write(action="user_updated", details={"changed": {"first_name": {}}}, **change)
    write(action="patient_updated", resource_type="patient", details={"changes": {"role": {}}})
    write(action="data_exported", timestamp=MONDAY)
    assert opened() == []


def test_access_by_deactivated_user_is_reported(write, opened, user):
    write(timestamp=MONDAY, data_subject="p1")
    write(
        user=None,
        action="user_updated",
        resource_type="user",
        resource_id=str(user.pk),
        details={"changed": {"is_active": {"from": True, "to": False}}},
        timestamp=MONDAY + timedelta(hours=1),
    )
    type(user).objects.filter(pk=user.pk).update(is_active=False)
    after = write(timestamp=MONDAY + timedelta(hours=2), data_subject="p1")
    (finding,) = opened()
    assert (finding.rule, finding.entries) == ("inactive_user", [after.pk])
    assert finding.details == {"deactivated": True}


def deactivation(target, at, to=False, **fields):
    values = {"user": None, "action": "user_updated", "resource_type": "user", "timestamp": at}
    details = {"changed": {"is_active": {"from": not to, "to": to}}}
    return {**values, "resource_id": str(target.pk), "details": details, **fields}


def test_entries_of_clients_don_t_hide_a_deactivated_user(write, opened, user):
    type(user).objects.filter(pk=user.pk).update(is_active=False)
    access = write(timestamp=MONDAY, data_subject="p1")
    later = MONDAY + timedelta(hours=1)
    write(**deactivation(user, later, user=user, origin=AuditLog.Origin.CLIENT))
    write(**deactivation(user, later, action="note_updated", origin=None))
    assert [finding.entries for finding in opened("inactive_user")] == [[access.pk]]


def test_user_is_inactive_since_the_last_change_to_inactive(write, opened, user):
    type(user).objects.filter(pk=user.pk).update(is_active=False)
    write(**deactivation(user, MONDAY))
    write(**deactivation(user, MONDAY + timedelta(hours=2), to=True))
    access = write(timestamp=MONDAY + timedelta(hours=1), data_subject="p1")
    assert [finding.entries for finding in opened("inactive_user")] == [[access.pk]]


@pytest.mark.parametrize("changed", [{"is_active": {}}, ["is_active"]])
def test_deactivation_may_be_recorded_without_its_value(write, opened, user, changed):
    type(user).objects.filter(pk=user.pk).update(is_active=False)
    write(timestamp=MONDAY, data_subject="p1")
    write(**deactivation(user, MONDAY + timedelta(hours=1), details={"changed": changed}))
    assert opened("inactive_user") == []


def test_deactivated_users_of_a_batch_are_two_queries(
    write, django_user_model, django_assert_num_queries
):
    users = [
        django_user_model.objects.create_user(email=f"u{n}@clinic.example", is_active=False)
        for n in range(5)
    ]
    ids = [write(user=one, timestamp=MONDAY, data_subject="p1").pk for one in users]
    for one in users:
        write(**deactivation(one, MONDAY))
    entries = [Entry(*row) for row in AuditLog.objects.values_list(*Entry._fields)]
    with django_assert_num_queries(2):
        hits = list(InactiveUser().examine(Batch(entries, States())))
    assert sorted(hit.entry.id for hit in hits) == ids


def test_role_change_by_a_client_is_ignored(write, opened, user):
    change = deactivation(user, MONDAY, details={"changed": {"role": {}}})
    write(**{**change, "user": user, "origin": AuditLog.Origin.CLIENT})
    write(**{**change, "action": "note_updated"})
    write(action="data_exported", timestamp=MONDAY)
    assert opened() == []


def test_sign_ins_by_a_client_are_ignored(write, opened, user):
    client = AuditLog.Origin.CLIENT
    for _ in range(5):
        failed(write, str(user.pk), MONDAY, user=user)
    write(action="login_succeeded", timestamp=MONDAY, origin=client)
    success = write(action="login_succeeded", timestamp=MONDAY + timedelta(minutes=1))
    (finding,) = opened()
    assert finding.entries[-1] == success.pk
    for _ in range(5):
        write(action="login_failed", timestamp=MONDAY, origin=client)
    write(action="login_succeeded", timestamp=MONDAY + timedelta(minutes=2))
    assert opened() == []


def test_access_by_leaving_user_is_reported(write, opened, configure, user):
    configure(REVIEW_LEAVING=leaving)
    write(timestamp=MONDAY, data_subject="p1")
    assert opened() == []
    leaving_ids.add(user.pk)
    try:
        write(timestamp=MONDAY, data_subject="p1")
        assert [finding.details for finding in opened()] == [{"deactivated": False}]
    finally:
        leaving_ids.clear()


def test_imported_entries_are_not_examined(write, opened, configure):
    configure(REVIEW_VIP=vip)
    write(timestamp=MONDAY, data_subject="chancellor", origin=AuditLog.Origin.IMPORT)
    assert opened() == []


@given(
    minutes=st.lists(st.integers(0, 400), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_volume_is_the_same_in_any_batches(minutes, cuts):
    entries = [
        Entry(number, 1, "viewed", "record", "r", MONDAY + timedelta(minutes=minute), "p1")
        for number, minute in enumerate(minutes)
    ]
    bounds = [0, *sorted(cuts), len(entries)]
    parts = [entries[start:end] for start, end in pairwise(bounds)]

    def hits(batches):
        rule, states = UnusualVolume(minimum=3, factor=2), States()
        return [hit for part in batches if part for hit in rule.examine(Batch(part, states))]

    assert hits(parts) == hits([entries])


@pytest.mark.parametrize("rule", [FailedSignIns(), ExportAfterRoleChange()])
def test_rule_remembers_as_long_as_its_window(rule):
    assert rule.memory == rule.within
