"""Services that write to the audit log. Specification: "POST /audit-logs/"."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError, connections, router, transaction

from myometrics_core.events import Event, Origin, is_awaited, publish_many
from myometrics_core.http import canonical_address
from myometrics_core.texts import storable_text
from myometrics_core.times import utc_now
from myometrics_core.users import existing_user_ids, lock_users_shared

from ..conf import audit_settings
from ..signing.canonical import DETAILS_MAX_BYTES, canonical_json
from .activities import entries_with_activities
from .events import SOURCE, event_of
from .models import MAX_LENGTHS, OPTIONAL_LENGTHS, AuditLog

BATCH_SIZE: Final = 500
# ``values`` iterates over the members again, for every entry.
ORIGINS: Final = frozenset(AuditLog.Origin.values)


class ActorDeleted(Exception):
    """The acting user was deleted before the entry could be written."""


@dataclass(frozen=True, kw_only=True)
class NewEntry:
    """An entry to be written.

    ``actor_id`` is the user's primary key, ``None`` for anonymous actions. ``origin`` is the
    reporter: a client of the API, this site's code, or an import. ``data_subject`` is the site's
    id of the patient or other person that the resource is about, ``purpose`` and ``legal_basis``
    say why it was processed; each has at most 100 characters.
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
    data_subject: str = ""
    purpose: str = ""
    legal_basis: str = ""


def entry_record(entry: NewEntry) -> AuditLog:
    """Write one entry with its leaf and publish it, in one transaction.

    Raises ``ValueError`` or ``TypeError`` for values that can't be stored, ``ActorDeleted`` if the
    actor was deleted.
    """
    row = new_row(entry)
    _insert([row])
    return row


def entries_record(entries: Iterable[NewEntry]) -> list[AuditLog]:
    """Write and publish many entries, all or none; raises the errors of :func:`entry_record`."""
    rows = [new_row(entry) for entry in entries]
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
    recorded = set(entries_with_activities(list(first)).values_list("activity_id", flat=True))
    new = [event for key, event in first.items() if key not in recorded]
    to_key = get_user_model()._meta.pk.to_python
    actors = [None if event.actor_id is None else to_key(event.actor_id) for event in new]
    wanted = set(actors) - {None}
    present = lock_users_shared(wanted) if wanted else set()
    rows = [
        _row(event, user_id=actor_id if actor_id in present else None, activity_id=event.id)
        for event, actor_id in zip(new, actors, strict=True)
    ]
    _write(rows, router.db_for_write(AuditLog))
    return rows


def entries_import(rows: Sequence[AuditLog]) -> None:
    """Write rows of :func:`new_row` for events of another log, in the caller's transaction.

    Doesn't publish them: they happened before, and in another system.
    """
    _write(rows, router.db_for_write(AuditLog))


def _insert(rows: Sequence[AuditLog]) -> None:
    using = router.db_for_write(AuditLog)
    types = {row.resource_type for row in rows}
    is_published = any(is_awaited(source=SOURCE, resource_type=name) for name in types)
    try:
        # Each of these is one statement on PostgreSQL, which needs no transaction.
        if len(rows) <= BATCH_SIZE and not is_published and not connections[using].in_atomic_block:
            _write(rows, using)
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
    elif connections[using].vendor != "postgresql":
        AuditLog.objects.using(using).bulk_create(rows, batch_size=BATCH_SIZE)
    elif 0 < len(rows) <= BATCH_SIZE:
        AuditLog.insert_at_once(rows, using)
    else:
        with transaction.atomic(using=using, savepoint=False):
            for first in range(0, len(rows), BATCH_SIZE):
                AuditLog.insert_at_once(rows[first : first + BATCH_SIZE], using)


def new_row(entry: NewEntry) -> AuditLog:
    """Return the unsaved row of ``entry``; raises the errors of :func:`entry_record`."""
    return _row(entry, user_id=entry.actor_id, activity_id=entry.activity_id)


def _row(facts: NewEntry | Event, *, user_id: Any | None, activity_id: str | None) -> AuditLog:
    for name, length in MAX_LENGTHS.items():
        text = getattr(facts, name)
        if not isinstance(text, str) or not 1 <= len(text) <= length or "\x00" in text:
            raise ValueError(f"{name} must be text of 1 to {length} characters without NUL")
        text.encode()
    for name, length in OPTIONAL_LENGTHS.items():
        text = getattr(facts, name, "")  # events don't have them
        if not isinstance(text, str) or len(text) > length or "\x00" in text:
            raise ValueError(f"{name} must be text of at most {length} characters without NUL")
        text.encode()
    if facts.origin is not None and facts.origin not in ORIGINS:
        raise ValueError(f"origin must be one of {AuditLog.Origin.values}")
    details = dict(facts.details)
    if len(canonical_json(details)) > DETAILS_MAX_BYTES:
        raise ValueError(f"details must be at most {DETAILS_MAX_BYTES} bytes of JSON")
    return AuditLog(
        user_id=user_id,
        action=facts.action,
        resource_type=facts.resource_type,
        resource_id=facts.resource_id,
        timestamp=facts.occurred_at or utc_now(),
        ip_address=canonical_address(facts.client_address),
        user_agent=storable_text(facts.user_agent, audit_settings.USER_AGENT_MAX_LENGTH),
        details=details,
        activity_id=activity_id,
        origin=facts.origin,
        **{name: getattr(facts, name, "") for name in OPTIONAL_LENGTHS},
    )
