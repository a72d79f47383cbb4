"""The examination of the log: in the order of the seals, or a period of it again.

A late commit with a lower id is in a later seal, so it is not skipped. Each batch is examined
without a transaction; a short one then moves the position and writes findings and states. Of two
processes that examine the same batch, the second writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import router
from django.db.models import Q, QuerySet

from myometrics_core.db import atomic_write, read_in_batches
from myometrics_core.times import seconds_since
from myometrics_core.users import lock_users_shared, parse_user_id

from ..log.bulk_values import one_of
from ..log.models import AuditLog, Leaf, Seal
from .built_in_rules import is_user_change
from .findings import findings_open
from .models import ScanPosition
from .rules import Batch, Entry, Hit, Rule, rules_in_force
from .states import States, StoredStates

BATCH_SIZE: Final = 5000
IMPORTED: Final = Q(origin=AuditLog.Origin.IMPORT)


@dataclass(frozen=True)
class ScanProgress:
    """The numbers of entries examined and findings opened so far."""

    entries: int
    findings: int


def scan_pending() -> Iterator[ScanProgress]:
    """Examine the sealed entries that are new since the last time; yield after each batch."""
    using = router.db_for_write(ScanPosition)
    entries = findings = 0
    while True:
        position = _position(using)
        leaves = list(
            _leaves_after(position, using).values_list("seal_number", "entry_id")[:BATCH_SIZE]
        )
        if not leaves:
            return
        batch = _read([entry_id for _, entry_id in leaves], using)
        opened = _scan(batch, position, leaves[-1], using)
        if opened is not None:
            entries, findings = entries + len(leaves), findings + opened
            yield ScanProgress(entries, findings)


def scan_period(since: datetime, until: datetime) -> Iterator[ScanProgress]:
    """Examine the entries of a period again, in the order of their times; yield after each batch.

    Reports what was not reported before, for example because of a new rule. Rules with a memory
    first see the entries before the period.
    """
    using = router.db_for_write(ScanPosition)
    rules, states = rules_in_force(), States()
    memory = max((rule.memory for rule in rules), default=timedelta(0))
    remembering = [rule for rule in rules if rule.memory]
    for batch in _batches(since - memory, since, using):
        list(_hits(batch, remembering, states))
        states.prune(batch[-1].timestamp)
    entries, own = 0, set[int]()
    for batch in _batches(since, until, using):
        hits = list(_hits(batch, rules, states))
        states.prune(batch[-1].timestamp)
        with atomic_write(using):
            lock_users_shared({hit.user_id for _, hit in hits} - {None}, using)
            # The other examination may be about to open the same findings.
            ScanPosition.objects.using(using).select_for_update().get_or_create(pk=1)
            own.update(finding.pk for finding in findings_open(hits, using=using, own=own))
        entries += len(batch)
        yield ScanProgress(entries, len(own))


def pending_count() -> int:
    """Return the number of sealed entries that are not examined yet."""
    using = router.db_for_write(ScanPosition)
    return _leaves_after(_position(using), using).count()


def period_count(since: datetime, until: datetime) -> int:
    """Return the number of entries that :func:`scan_period` examines."""
    return _entries_between(since, until, router.db_for_write(ScanPosition)).count()


def scan_lag_seconds() -> float:
    """Return the age of the oldest seal with entries that are not examined yet; 0 if none."""
    using = router.db_for_write(ScanPosition)
    leaf = _leaves_after(_position(using), using).first()
    if leaf is None or leaf.seal_number is None:
        return 0.0
    sealed = Seal.objects.using(using).filter(number=leaf.seal_number)
    since = sealed.values_list("sealed_at", flat=True).first()
    return seconds_since(since)


def scanned_until() -> datetime | None:
    """Return the time of the entry that was examined last; ``None`` if it is erased."""
    using = router.db_for_write(ScanPosition)
    entries = AuditLog._base_manager.using(using).filter(pk=_position(using).entry_id)
    return entries.values_list("timestamp", flat=True).first()


def is_scanned_until(until: datetime) -> bool:
    """Return whether no entry before ``until`` is waiting for its seal or its examination."""
    using = router.db_for_write(ScanPosition)
    entries = AuditLog._base_manager.using(using).filter(timestamp__lt=until).order_by()
    for leaves in (
        Leaf.objects.using(using).filter(seal_number=None, erasure_id=None),
        _leaves_after(_position(using), using).order_by(),
    ):
        if entries.filter(pk__in=leaves.values("entry_id")).exists():
            return False
    return True


def _position(using: str) -> ScanPosition:
    return ScanPosition.objects.using(using).get_or_create(pk=1)[0]


def _leaves_after(position: ScanPosition, using: str) -> QuerySet[Leaf]:
    number, entry_id = position.seal_number, position.entry_id
    after = Q(seal_number__gte=number) & (Q(seal_number__gt=number) | Q(entry_id__gt=entry_id))
    return Leaf.objects.using(using).filter(after).order_by("seal_number", "entry_id")


def _read(ids: list[int], using: str) -> list[Entry]:
    """Return the entries with these ids, in their order; without erased and imported ones."""
    condition, values = one_of("id", ids, using)
    rows = AuditLog._base_manager.using(using).order_by().exclude(IMPORTED)
    rows = rows.extra(where=[condition], params=values)  # noqa: S610
    found = {row[0]: Entry._make(row) for row in rows.values_list(*Entry._fields)}
    return [found[entry_id] for entry_id in ids if entry_id in found]


def _scan(
    batch: list[Entry], position: ScanPosition, last: tuple[Any, Any], using: str
) -> int | None:
    """Examine a batch and move the position to ``last``; ``None`` if it must be read again."""
    states = StoredStates(using)
    hits = list(_hits(batch, rules_in_force(), states))
    mentioned = (_mentioned_users(batch) | {hit.user_id for _, hit in hits}) - {None}
    unmoved = ScanPosition.objects.using(using).filter(
        pk=position.pk, seal_number=position.seal_number, entry_id=position.entry_id
    )
    with atomic_write(using):
        # Locked before their other rows, as a deletion does.
        deleted = mentioned - lock_users_shared(mentioned, using)
        if any(entry.user_id in deleted for entry in batch):
            return None  # deleted since the entries were read: read them again
        if not unmoved.update(seal_number=last[0], entry_id=last[1]):
            return None
        states.save(without={str(user_id) for user_id in deleted})
        return len(findings_open(hits, using=using))


def _mentioned_users(batch: list[Entry]) -> set[Any]:
    """Return the users who acted or were changed: rules may remember something of them."""
    found = {entry.user_id for entry in batch}
    for entry in filter(is_user_change, batch):
        with suppress(ValueError):
            found.add(parse_user_id(entry.resource_id))
    return found


def _hits(entries: list[Entry], rules: list[Rule], states: States) -> Iterator[tuple[Rule, Hit]]:
    batch = Batch(entries, states)
    for rule in rules if entries else ():
        for hit in rule.examine(batch):
            yield rule, hit


def _entries_between(since: datetime, until: datetime, using: str) -> QuerySet[AuditLog]:
    entries = AuditLog._base_manager.using(using).filter(timestamp__gte=since, timestamp__lt=until)
    return entries.exclude(IMPORTED).order_by("timestamp", "id")


def _batches(since: datetime, until: datetime, using: str) -> Iterator[list[Entry]]:
    # Without pseudonyms: findings about deleted users have other keys, and would be opened again.
    names = [name for name in Entry._fields if name != "pseudonym"]
    rows = _entries_between(since, until, using).values(*names)
    batch: list[Entry] = []
    for row in read_in_batches(rows, size=BATCH_SIZE):
        batch.append(Entry(**row))
        if len(batch) == BATCH_SIZE:
            yield batch
            batch = []
    if batch:
        yield batch
