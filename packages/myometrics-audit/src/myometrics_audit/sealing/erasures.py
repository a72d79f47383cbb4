"""Erasure of entries: each is recorded and signed before the entries are deleted."""

from __future__ import annotations

import secrets
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models, transaction
from django.utils import timezone

from myometrics_core.times import whole_milliseconds
from myometrics_core.users import account_pseudonyms, lock_user_for_delete

from ..conf import audit_settings
from ..log.models import AuditLog, EntryCount, Erasure, Leaf
from ..signing.keys import active_key, known_keys
from ..signing.signatures import (
    actor_commitment,
    actor_nonce,
    erasure_digest,
    erasure_leaf,
    new_nonce,
    subject_of,
)
from .counts import (
    ALL_TIME,
    COUNTED_COLUMNS,
    CountKey,
    count_changes,
    counts_add,
    counts_delete_user,
    grouped_changes,
)
from .erased_ranges import ErasedRange
from .holds import held_condition, note_retained
from .locks import evidence_lock

Reason = Erasure.Reason
LEAF_BATCH = 10_000


def entries_erase_or_retain(*, user: AbstractBaseUser, using: str) -> Erasure | None:
    """Erase or retain a user's entries; call it in the transaction that deletes the user.

    With ``ON_USER_DELETE`` ``"cascade"`` the user's entries are marked as erased and deleted, and
    so are the failed logins of the account, which hold client addresses. With ``"retain"``, and
    for entries under a legal hold, a pseudonym replaces the user. Returns the signed erasure,
    ``None`` if there were no entries.
    """
    with evidence_lock(using):
        lock_user_for_delete(user, using)
        entries = AuditLog._base_manager.using(using).filter(user_id=user.pk)
        if audit_settings.ON_USER_DELETE == "retain":
            erasure = _entries_retain(entries, user_id=user.pk, using=using)
        else:
            user_entries = entries | _failed_logins(user, using)
            held = held_condition(using)
            if held is not None:
                _entries_retain(entries.filter(held), user_id=user.pk, using=using)
                user_entries = user_entries.exclude(held)
            erasure = entries_erase(user_entries, reason=Reason.USER, details={}, using=using)
        counts_delete_user(user.pk, using=using)
    return erasure


def entries_erase(
    entries: models.QuerySet[AuditLog], *, reason: str, details: dict[str, Any], using: str
) -> Erasure | None:
    """Sign the erasure of ``entries``, then delete them. The caller holds the evidence lock."""
    erasure_id = uuid.uuid4()
    leaves = Leaf.objects.using(using)
    chosen = entries.order_by().values("pk")
    leaves.filter(entry_id__in=chosen, erasure_id=None).update(erasure_id=erasure_id)
    erased = leaves.filter(erasure_id=erasure_id)
    count, digest = erasure_digest(leaf_pairs(erased))
    erasure = None
    if count:
        _take_from_counts(erased, using)
        erasure = Erasure(
            id=erasure_id, reason=reason, entries=count, digest=digest, details=details
        )
        _erasure_sign(erasure, using)
        # ``entries`` may now match newer entries, whose leaves are not marked.
        marked = erased.values("entry_id")
        _raw_delete(AuditLog._base_manager.using(using).filter(pk__in=marked), using)
    has_leaf = models.Exists(leaves.filter(entry_id=models.OuterRef("pk")))
    _raw_delete(entries.order_by().filter(~has_leaf), using)
    return erasure


def _failed_logins(user: AbstractBaseUser, using: str) -> models.QuerySet[AuditLog]:
    failed = AuditLog._base_manager.using(using).filter(user=None, resource_type="user")
    # The user models of migrations have no get_email_field_name().
    email = getattr(user, get_user_model().get_email_field_name(), None)
    return failed.filter(resource_id__in=account_pseudonyms(email)) if email else failed.none()


def entries_purge_chunk(*, before: datetime, limit: int, using: str) -> int:
    """Erase at most ``limit`` of the oldest entries before a time; return their number.

    Entries under a legal hold are kept.
    """
    with evidence_lock(using):
        objects = AuditLog._base_manager.using(using)
        oldest = objects.filter(timestamp__lt=before).order_by("timestamp", "id")
        held = held_condition(using)
        if held is not None:
            oldest = oldest.exclude(held)
        ids = list(oldest.values_list("pk", flat=True)[:limit])
        if ids:
            details = {"older_than": before.isoformat()}
            chunk = objects.filter(pk__in=ids)
            entries_erase(chunk, reason=Reason.PURGE, details=details, using=using)
    return len(ids)


@dataclass(frozen=True)
class RangeErasure:
    """The evidence of the erasure of a range, before it is signed."""

    erased: ErasedRange
    entries: int
    digest: bytes
    counts: Counter[CountKey] = field(default_factory=Counter)
    has_all_entries: bool = True
    """Whether there is an entry for each leaf, and no other."""


def range_erasure_prepare(erased: ErasedRange, *, using: str) -> RangeErasure:
    """Read the leaves and count the entries of a range whose entries are all sealed.

    This takes long, so it needs no lock; if an erasure or a legal hold was written since, do it
    again.
    """
    leaves, rows = erased.leaves(using), erased.rows(using)
    count, digest = erasure_digest(leaf_pairs(leaves))
    counts = grouped_changes(rows)
    has_as_many = counts["", EntryCount.Period.ALL, ALL_TIME] == count
    entry = models.Exists(rows.filter(pk=models.OuterRef("entry_id")))
    is_complete = has_as_many and leaves.filter(~entry).count() == 0
    return RangeErasure(erased, count, digest, counts, is_complete)


def range_erasure_write(prepared: RangeErasure, *, details: dict[str, Any], using: str) -> Erasure:
    """Sign the erasure of a range and correct the counts.

    The caller holds the evidence lock, and deletes the entries in the same transaction.
    """
    counts_add({key: -count for key, count in prepared.counts.items()}, using=using)
    erasure = Erasure(
        reason=Reason.PURGE,
        entries=prepared.entries,
        digest=prepared.digest,
        details={**details, **prepared.erased.details()},
    )
    return _erasure_sign(erasure, using)


def _entries_retain(
    entries: models.QuerySet[AuditLog], *, user_id: Any, using: str
) -> Erasure | None:
    ids = Leaf.objects.using(using).filter(entry_id__in=entries.order_by().values("pk"))
    count, digest = erasure_digest(leaf_pairs(ids))
    if count == 0 and not entries.exists():
        return None
    pseudonym = secrets.token_hex(16)
    keys = list(known_keys())
    # What leaves of version 1 and of version 2 cover, so that they can be verified.
    subjects = {key.id: subject_of(user_id, key) for key in keys}
    actors = {key.id: actor_commitment(user_id, actor_nonce(user_id, key)).hex() for key in keys}
    erasure = _erasure_sign(
        Erasure(
            reason=Reason.RETAIN,
            entries=count,
            digest=digest,
            pseudonym=pseudonym,
            details={"subjects": subjects, "actors": actors},
        ),
        using,
    )
    entries.update(user_id=None, pseudonym=pseudonym, actor_nonce=None)
    note_retained(user_id, pseudonym, using)
    return erasure


def _erasure_sign(erasure: Erasure, using: str) -> Erasure:
    key = active_key()
    erasure.nonce = new_nonce()
    erasure.key_id = key.id
    erasure.erased_at = whole_milliseconds(timezone.now())
    erasure.hash = erasure_leaf(erasure, key)
    erasure.save(force_insert=True, using=using)
    return erasure


def leaf_pairs(leaves: models.QuerySet[Leaf]) -> Iterator[tuple[int, bytes | memoryview]]:
    """Yield the entry id and the hash of each leaf, ordered by entry id, in constant memory."""
    # Tuples, because a partition has millions of leaves: dictionaries take three times as long.
    pairs = leaves.order_by("entry_id").values_list("entry_id", "hash")
    batch = list(pairs[:LEAF_BATCH])
    while batch:
        yield from batch
        batch = list(pairs.filter(entry_id__gt=batch[-1][0])[:LEAF_BATCH])


def _take_from_counts(erased: models.QuerySet[Leaf], using: str) -> None:
    counted = erased.filter(seal_number__isnull=False).values("entry_id")
    entries = AuditLog._base_manager.using(using).filter(pk__in=counted).order_by()
    facts = entries.values_list(*COUNTED_COLUMNS)
    counts_add(count_changes(facts.iterator(chunk_size=10_000), sign=-1), using=using)


def _raw_delete(entries: models.QuerySet[AuditLog], using: str) -> None:
    with transaction.atomic(using=using, savepoint=False):
        entries._raw_delete(using)
