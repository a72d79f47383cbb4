"""Services that write to the audit log. Specification: "POST /audit-logs/"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError, connections, router, transaction

from myometrics_core.events import Event, Origin, is_awaited, publish_many
from myometrics_core.texts import storable_text
from myometrics_core.times import utc_now
from myometrics_core.users import existing_user_ids, lock_users_shared

from ..conf import audit_settings
from ..signing.canonical import DETAILS_MAX_BYTES, canonical_address, canonical_json
from .events import SOURCE, event_of
from .models import MAX_LENGTHS, AuditLog

__all__ = ["ActorDeleted", "NewEntry", "entries_record", "entry_record", "events_record"]

BATCH_SIZE: Final = 500


class ActorDeleted(Exception):
    """The acting user was deleted before the entry could be written."""


@dataclass(frozen=True, kw_only=True)
class NewEntry:
    """An entry to be written.

    ``actor_id`` is the user's primary key, ``None`` for anonymous actions. ``origin`` is the
    reporter: a client of the API, this site's code, or an import.
    """

    actor_id: Any | None
    action: str
    resource_type: str
    resource_id: str
    details: Mapping[str, Any] = field(default_factory=dict)
    client_address: str | None = None
    user_agent: str = ""
    occurred_at: datetime | None = None
    activity_id: str | None = None
    origin: Origin | None = "server"


def entry_record(entry: NewEntry) -> AuditLog:
    """Write one entry with its leaf and publish it, in one transaction.

    Raises ``ValueError`` or ``TypeError`` for values that can't be stored, ``ActorDeleted`` if the
    actor was deleted.
    """
    row = _row(entry)
    _insert([row])
    return row


def entries_record(entries: Iterable[NewEntry]) -> list[AuditLog]:
    """Write and publish many entries, all or none; raises the errors of :func:`entry_record`."""
    rows = [_row(entry) for entry in entries]
    if rows:
        _insert(rows)
    return rows


def events_record(events: Sequence[Event]) -> list[AuditLog]:
    """Record events of other packages that are not recorded yet; return the new entries.

    Doesn't publish them again. For a deleted actor the entry has no user.
    """
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event.id, event)
    recorded = set(
        AuditLog.objects.filter(activity_id__in=list(first)).values_list("activity_id", flat=True)
    )
    new = [event for key, event in first.items() if key not in recorded]
    to_key = get_user_model()._meta.pk.to_python
    actors = [None if event.actor_id is None else to_key(event.actor_id) for event in new]
    wanted = set(actors) - {None}
    present = lock_users_shared(wanted) if wanted else set()
    rows = [
        _row(
            NewEntry(
                actor_id=actor_id if actor_id in present else None,
                action=event.action,
                resource_type=event.resource_type,
                resource_id=event.resource_id,
                details=event.details,
                client_address=event.client_address,
                user_agent=event.user_agent,
                occurred_at=event.occurred_at,
                activity_id=event.id,
                origin=event.origin,
            )
        )
        for event, actor_id in zip(new, actors, strict=True)
    ]
    _write(rows, router.db_for_write(AuditLog))
    return rows


def _insert(rows: Sequence[AuditLog]) -> None:
    using = router.db_for_write(AuditLog)
    types = {row.resource_type for row in rows}
    is_published = any(is_awaited(source=SOURCE, resource_type=name) for name in types)
    try:
        if len(rows) == 1 and not is_published and not connections[using].in_atomic_block:
            rows[0].save(using=using)
            return
        with transaction.atomic(using=using):
            _write(rows, using)
            publish_many(map(event_of, rows))
    except IntegrityError as error:
        actors = {row.user_id for row in rows if row.user_id is not None}
        if len(existing_user_ids(actors)) < len(actors):
            raise ActorDeleted("The acting user was deleted.") from error
        raise


def _write(rows: Sequence[AuditLog], using: str) -> None:
    if len(rows) == 1:
        rows[0].save(using=using)
    elif rows:
        AuditLog.objects.using(using).bulk_create(rows, batch_size=BATCH_SIZE)


def _row(entry: NewEntry) -> AuditLog:
    for name, length in MAX_LENGTHS.items():
        text = getattr(entry, name)
        if not isinstance(text, str) or not 1 <= len(text) <= length or "\x00" in text:
            raise ValueError(f"{name} must be text of 1 to {length} characters without NUL")
        text.encode()
    if entry.origin is not None and entry.origin not in AuditLog.Origin.values:
        raise ValueError(f"origin must be one of {AuditLog.Origin.values}")
    details = dict(entry.details)
    if len(canonical_json(details)) > DETAILS_MAX_BYTES:
        raise ValueError(f"details must be at most {DETAILS_MAX_BYTES} bytes of JSON")
    return AuditLog(
        user_id=entry.actor_id,
        action=entry.action,
        resource_type=entry.resource_type,
        resource_id=entry.resource_id,
        timestamp=entry.occurred_at or utc_now(),
        ip_address=canonical_address(entry.client_address),
        user_agent=storable_text(entry.user_agent, audit_settings.USER_AGENT_MAX_LENGTH),
        details=details,
        activity_id=entry.activity_id,
        origin=entry.origin,
    )
