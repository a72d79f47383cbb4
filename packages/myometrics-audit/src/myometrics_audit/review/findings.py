"""Services that open, assign and decide findings. Opening and deciding are entries of the log."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import CharField, QuerySet, Value
from django.db.models.functions import Cast, Concat
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from myometrics_core.db import atomic_write
from myometrics_core.users import lock_users_shared

from ..audit import record, record_many
from ..log.services import NewEntry
from .models import Finding
from .rules import Hit, Rule

FINDING_OPENED: Final = "finding_opened"
FINDING_DECIDED: Final = "finding_decided"
MAX_ENTRIES: Final = 100
"""Entries whose ids a finding has; all are counted."""
CHANGED_FIELDS: Final = ("entries", "entry_count", "period_entry", "details", "happened_at")
State = Finding.State


def findings_open(
    hits: Sequence[tuple[Rule, Hit]], *, using: str, own: Collection[int] | None = None
) -> list[Finding]:
    """Open findings, or add to those that are open; in the caller's transaction.

    Entries after a decision open another finding. Without ``own``, the entries are examined for the
    first time in the order of the seals. With it, a period is examined, and ``own`` are the ids of
    the findings that this examination has opened. Nothing that was reported is reported again, and
    nothing about users who are deleted. Returns the new findings.
    """
    users = lock_users_shared({hit.user_id for _, hit in hits} - {None}, using)
    hits = [(rule, hit) for rule, hit in hits if hit.user_id is None or hit.user_id in users]
    if not hits:
        return []
    by_key = _findings_by_key(hits, using)
    new: dict[tuple[str, str], Finding] = {}
    changed: dict[int, Finding] = {}
    for rule, hit in hits:
        earlier = by_key.setdefault((rule.name, hit.key), [])
        if any(_is_reported(finding, hit, own) for finding in earlier):
            continue
        if not earlier or earlier[-1].state != State.OPEN:
            number = earlier[-1].number + 1 if earlier else 1
            finding = _new_finding(rule, hit, number=number)
            new[rule.name, hit.key] = finding
            earlier.append(finding)
        finding = earlier[-1]
        _add(finding, hit)
        if own is not None:
            finding.period_entry = max(finding.period_entry, hit.entry.id)
        if finding.pk is not None:
            changed[finding.pk] = finding
    findings = Finding.objects.using(using)
    findings.bulk_update(changed.values(), CHANGED_FIELDS, batch_size=200)
    opened = findings.bulk_create(new.values(), batch_size=200)
    record_many(map(_opened_entry, opened))
    return opened


def finding_assign(*, finding: Finding, actor: AbstractBaseUser) -> None:
    """Assign an open finding. Raises ``ValidationError`` if it is decided, or about the actor."""
    _require_other_user(finding, actor)
    using = router.db_for_write(Finding)
    with atomic_write(using):
        lock_users_shared({actor.pk}, using)
        if not _changeable(finding).filter(state=State.OPEN).update(assignee=actor):
            raise ValidationError(_("Finding %s is decided.") % finding.pk)


def finding_decide(
    *,
    finding: Finding,
    actor: AbstractBaseUser,
    state: str,
    reason: str,
    entry_count: int | None = None,
    seen_state: str = "",
    request: HttpRequest | None = None,
) -> None:
    """Confirm or dismiss a finding; a decision can be changed until its period is signed off.

    ``entry_count`` and ``seen_state`` are the number of entries and the state that the actor has
    seen; default: those of ``finding``. Raises ``ValidationError`` if entries were added or another
    reviewer has decided since, if the period is signed off, if a dismissal has no reason, and for
    findings about the actor.
    """
    _require_other_user(finding, actor)
    if state not in (State.CONFIRMED, State.DISMISSED):
        raise ValueError("A decision is 'confirmed' or 'dismissed'.")
    if state == State.DISMISSED and not reason.strip():
        raise ValidationError(_("Give a reason for the dismissal."))
    seen = finding.entry_count if entry_count is None else entry_count
    seen_state = seen_state or finding.state
    using = router.db_for_write(Finding)
    with atomic_write(using):
        lock_users_shared({actor.pk}, using)
        changed = (
            _changeable(finding)
            .filter(entry_count=seen, state=seen_state)
            .update(state=state, reason=reason.strip(), decided_by=actor, decided_at=timezone.now())
        )
        if not changed and _changeable(finding).exclude(state=seen_state).exists():
            raise ValidationError(_("Finding %s is decided.") % finding.pk)
        if not changed and _changeable(finding).exists():
            raise ValidationError(
                _("Finding %s has new entries. Look at them, and decide again.") % finding.pk
            )
        if not changed:
            raise ValidationError(_("The period of finding %s is signed off.") % finding.pk)
        record(
            actor=actor,
            action=FINDING_DECIDED,
            resource=("finding", finding.pk),
            details={"rule": finding.rule, "state": state},
            request=request,
        )
    finding.state = state


def findings_delete_user(user: AbstractBaseUser, using: str) -> None:
    """Replace the keys of findings about a user who is being deleted: they have the user's id."""
    key = Concat(Value("deleted:"), Cast("pk", CharField()))
    Finding.objects.using(using).filter(user_id=user.pk).update(key=key)


def open_findings() -> QuerySet[Finding]:
    """Return the findings that are not decided."""
    return Finding.objects.filter(state=State.OPEN)


def _require_other_user(finding: Finding, actor: AbstractBaseUser) -> None:
    if finding.user_id == actor.pk:
        raise ValidationError(_("Finding %s is about yourself.") % finding.pk)


def _changeable(finding: Finding) -> QuerySet[Finding]:
    return Finding.objects.using(router.db_for_write(Finding)).filter(pk=finding.pk, review=None)


def _findings_by_key(
    hits: Iterable[tuple[Rule, Hit]], using: str
) -> dict[tuple[str, str], list[Finding]]:
    """Return the findings of each rule and key, ordered by number."""
    keys: dict[str, set[str]] = {}
    for rule, hit in hits:
        keys.setdefault(rule.name, set()).add(hit.key)
    found: dict[tuple[str, str], list[Finding]] = {}
    for name, chosen in sorted(keys.items()):
        rows = Finding.objects.using(using).filter(rule=name, key__in=sorted(chosen))
        # Locked, so that no decision is made concurrently.
        for finding in rows.order_by("key", "number").select_for_update(no_key=True):
            found.setdefault((name, finding.key), []).append(finding)
    return found


def _new_finding(rule: Rule, hit: Hit, *, number: int) -> Finding:
    return Finding(
        rule=rule.name,
        key=hit.key,
        number=number,
        severity=rule.severity,
        user_id=hit.user_id,
        data_subject=hit.data_subject,
        happened_at=hit.entry.timestamp,
        opened_at=timezone.now(),
    )


def _is_reported(finding: Finding, hit: Hit, own: Collection[int] | None) -> bool:
    """Return whether the entry was reported, or may have been: the list of entries can be full."""
    if hit.entry.id in finding.entries:
        return True
    if len(finding.entries) < MAX_ENTRIES or finding.pk is None:
        return False
    if own is None:
        return hit.entry.id <= finding.period_entry
    return finding.pk not in own


def _add(finding: Finding, hit: Hit) -> None:
    ids = (*hit.other_entries, hit.entry.id)
    new = [entry_id for entry_id in ids if entry_id not in finding.entries]
    finding.entry_count += len(new)
    finding.entries = [*finding.entries, *new][:MAX_ENTRIES]
    finding.happened_at = min(finding.happened_at, hit.entry.timestamp)
    finding.details = dict(hit.details)


def _opened_entry(finding: Finding) -> NewEntry:
    return NewEntry(
        actor_id=None,
        action=FINDING_OPENED,
        resource_type="finding",
        resource_id=str(finding.pk),
        details={"rule": finding.rule},
    )
