"""The review of a made-up log: exactly the expected findings, whichever way it is examined."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from myometrics_audit.models import AuditLog
from myometrics_audit.review import rules, scanning, states
from myometrics_audit.review.models import Finding, RuleState, ScanPosition
from myometrics_audit.review.rules import Rule
from myometrics_audit.sealing import seal_pending
from myometrics_core.users import account_pseudonym
from myometrics_testing.review_log import START, WEEKS, ZONE, ReviewLog

pytestmark = pytest.mark.django_db
SIZE = 20_000
USERS = 120
PER_KIND = 5
END = START + timedelta(weeks=WEEKS)


@pytest.fixture
def make_log(django_user_model, settings):
    """A function that writes and seals a made-up log, and sets its hooks."""

    def make(size=SIZE):
        created = [django_user_model(email=f"user{n}@clinic.example") for n in range(USERS)]
        created.sort(key=lambda user: user.pk)
        django_user_model.objects.bulk_create(created)
        users = [(user.pk, user.email) for user in created]
        log = ReviewLog(users, size=size, per_kind=PER_KIND)
        django_user_model.objects.filter(pk__in=log.deactivated).update(is_active=False)
        settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, **log.settings}
        made = log.entries()
        rows = AuditLog.objects.bulk_create((AuditLog(**vars(one)) for one in made), batch_size=500)
        list(seal_pending())
        ids = {id(one): row.pk for one, row in zip(made, rows, strict=True)}
        planted = {(rule, ids[id(one)]) for rule, one in log.planted}
        return log, rows, planted

    return make


def expected_findings(log, rows):
    """Apply the rules to the whole log at once, as simply as possible: rule and key → entries."""
    found = defaultdict(list)
    accesses = [row for row in rows if row.data_subject and row.user_id]
    for row in accesses:
        local = row.timestamp.astimezone(ZONE)
        day, pair = (
            f"{row.user_id}:{local.date()}",
            f"{row.user_id}:{local.date()}:{row.data_subject}",
        )
        is_reported = {
            ("outside_hours", day): local.weekday() > 4 or not 7 <= local.hour < 19,
            ("same_name_or_address", pair): log._is_related(row.user_id, row.data_subject),
            ("vip", pair): bool(log.vip({row.data_subject})),
            ("no_care_relation", pair): not log._is_in_care(row.user_id, row.data_subject),
            ("inactive_user", day): row.user_id in {pk for pk, _ in log._users[-PER_KIND:]},
        }
        for place in (place for place, is_true in is_reported.items() if is_true):
            found[place].append(row.pk)
    add_volumes(found, accesses)
    add_failed_sign_ins(found, dict(log._users), rows)
    add_exports(found, rows)
    return {place: (len(ids), ids[:100]) for place, ids in found.items()}


def add_volumes(found, accesses):
    hours = defaultdict(lambda: defaultdict(list))
    for row in accesses:
        hours[row.user_id][int(row.timestamp.timestamp()) // 3600].append(row.pk)
    for user, counts in hours.items():
        for hour, ids in counts.items():
            past = [h for h in counts if h < hour and h // 24 >= hour // 24 - 28]
            total = sum(len(counts[h]) for h in past)
            limit = max(50, 5 * total // len(past)) if past else 50
            if len(ids) > limit:
                found["unusual_volume", f"{user}:{hour}"] = ids[limit:]


def add_failed_sign_ins(found, emails, rows):
    failures = defaultdict(list)
    for row in rows:
        if row.action == "login_failed":
            failures[row.resource_id].append(row)
        elif row.action == "login_succeeded":
            failed = failures.pop(account_pseudonym(emails[row.user_id]), [])
            recent = [f.pk for f in failed if row.timestamp - f.timestamp <= timedelta(minutes=15)]
            if len(recent) >= 5:
                found["failed_sign_ins", f"{row.user_id}:{row.pk}"] = [*recent[-5:], row.pk]


def add_exports(found, rows):
    changes = {}
    for row in rows:
        change = changes.get(str(row.user_id))
        if row.action == "user_updated":
            changes[row.resource_id] = row
        is_soon = change and row.timestamp - change.timestamp <= timedelta(days=1)
        if row.action == "data_exported" and is_soon:
            place = found["export_after_role_change", f"{row.user_id}:{change.pk}"]
            place += [*([] if place else [change.pk]), row.pk]


def findings():
    rows = Finding.objects.values_list("rule", "key", "entry_count", "entries")
    return {(rule, key): (count, entries) for rule, key, count, entries in rows}


def test_review_finds_exactly_what_the_formulas_say(make_log):
    log, rows, planted = make_log()
    list(scanning.scan_pending())
    found = findings()
    assert found == expected_findings(log, rows)
    places = {(rule, entry_id) for (rule, _), (_, ids) in found.items() for entry_id in ids}
    assert planted <= places
    assert len(planted) == 8 * PER_KIND


def test_batches_don_t_change_the_findings(make_log, monkeypatch):
    make_log(2_000)
    list(scanning.scan_pending())
    whole = findings()
    for size in (297, 1_000):
        Finding.objects.all().delete()
        RuleState.objects.all().delete()
        ScanPosition.objects.all().delete()
        monkeypatch.setattr(scanning, "BATCH_SIZE", size)
        list(scanning.scan_pending())
        assert findings() == whole


def test_period_has_the_same_findings_and_adds_nothing_again(make_log, monkeypatch):
    make_log(2_000)
    monkeypatch.setattr(scanning, "BATCH_SIZE", 700)
    list(scanning.scan_pending())
    pending = findings()
    Finding.objects.all().delete()
    *_, done = scanning.scan_period(START, END)
    assert findings() == pending
    assert done.findings == len(pending)
    *_, again = scanning.scan_period(START, END)
    assert (findings(), again.findings) == (pending, 0)


def test_period_that_was_stopped_is_completed(make_log, monkeypatch):
    make_log(2_000)
    *_, done = scanning.scan_period(START, END)
    whole = findings()
    Finding.objects.all().delete()
    monkeypatch.setattr(scanning, "BATCH_SIZE", 333)
    for number, _ in enumerate(scanning.scan_period(START, END)):
        if number == 3:
            break
    assert 0 < Finding.objects.count() < done.findings
    list(scanning.scan_period(START, END))
    assert findings() == whole


def test_part_of_the_log_has_the_findings_of_its_time(make_log):
    make_log(2_000)
    middle = START + timedelta(weeks=3)
    list(scanning.scan_period(START, END))
    whole = dict(Finding.objects.filter(happened_at__gte=middle).values_list("key", "entry_count"))
    Finding.objects.all().delete()
    list(scanning.scan_period(middle, END))
    assert dict(Finding.objects.values_list("key", "entry_count")) == whole


class RemembersEntries(Rule):
    """Has a state for each entry, for an hour."""

    name = "remembers"
    title = "Remembers"
    memory = timedelta(hours=1)

    def __init__(self):
        self.sizes = []

    def examine(self, batch):
        for state in batch.states(self, {str(entry.id) for entry in batch.entries}).values():
            state["seen"] = True
        self.sizes.append(len(batch._states._values))
        return iter(())


def test_states_of_the_time_before_a_period_are_pruned(write, monkeypatch):
    for hour in range(100):
        write(timestamp=END - timedelta(hours=hour + 1))
    rule = RemembersEntries()
    monkeypatch.setattr(rules, "_rules", rules.registered_rules())
    rules.register_rule(rule)
    monkeypatch.setattr(states, "MIN_PRUNED", 1)
    monkeypatch.setattr(scanning, "BATCH_SIZE", 10)
    list(scanning.scan_period(END, END + timedelta(days=1)))
    assert len(rule.sizes) == 10
    assert max(rule.sizes) < 50


def test_statements_of_a_batch_don_t_grow_with_its_entries(make_log, monkeypatch):
    make_log(2_000)
    counts = []
    for size in (200, 1_000):
        monkeypatch.setattr(scanning, "BATCH_SIZE", size)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            next(scanning.scan_pending())
        counts.append(len(queries))
    assert counts[1] <= counts[0] + 10, counts
