"""Sealed entries that a stream has not sent yet, in seal order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import router
from django.db.models import QuerySet, Sum

from ..log.models import AuditLog, Leaf, Seal
from .models import Stream
from .options import StreamOptions


class Position(NamedTuple):
    """A place in the log in seal order; everything up to it was sent."""

    seal_number: int
    entry_id: int


@dataclass(frozen=True)
class Pending:
    """A sealed leaf after the position of a stream.

    ``entry`` is ``None`` if it was erased, or if the stream doesn't select it.
    """

    position: Position
    entry: AuditLog | None


def log_alias() -> str:
    """Return the database with the log: a lagging replica still has entries that were erased."""
    return router.db_for_write(Leaf)


def selected_entries(options: StreamOptions) -> QuerySet[AuditLog]:
    """Return the entries that a stream selects, sealed or not."""
    entries = AuditLog._base_manager.using(log_alias()).order_by()
    if options.actions:
        entries = entries.filter(action__in=options.actions)
    if options.resource_types:
        entries = entries.filter(resource_type__in=options.resource_types)
    return entries


def read_pending(options: StreamOptions, after: Position, limit: int) -> list[Pending]:
    """Return the next leaves after a position with their entries; three statements at most."""
    leaves = _leaves_after(after, limit)
    ids = [entry_id for _, entry_id, erasure_id in leaves if erasure_id is None]
    entries = selected_entries(options).in_bulk(ids) if ids else {}
    return [
        Pending(Position(seal_number, entry_id), entries.get(entry_id))
        for seal_number, entry_id, _ in leaves
    ]


def pending_since(after: Position) -> datetime | None:
    """Return when the oldest leaf after a position was sealed; ``None`` if there is none."""
    leaves = _leaves_after(after, 1)
    if not leaves:
        return None
    seals = Seal.objects.using(log_alias()).filter(number=leaves[0][0])
    return seals.values_list("sealed_at", flat=True).first()


def pending_count(after: Position) -> int:
    """Return the number of sealed leaves after a position, without reading those of whole seals."""
    alias = log_alias()
    same = Leaf.objects.using(alias).filter(
        seal_number=after.seal_number, entry_id__gt=after.entry_id
    )
    newer = Seal.objects.using(alias).filter(number__gt=after.seal_number)
    return same.count() + (newer.aggregate(total=Sum("entries"))["total"] or 0)


def position_of(stream: Stream) -> Position:
    """Return the position of a stream."""
    return Position(stream.seal_number, stream.entry_id)


def _leaves_after(after: Position, limit: int) -> list[tuple[Any, int, Any]]:
    # Two queries: each is one scan of the index, which `OR` of both conditions is not.
    leaves = Leaf.objects.using(log_alias()).values_list("seal_number", "entry_id", "erasure_id")
    same = leaves.filter(seal_number=after.seal_number, entry_id__gt=after.entry_id)
    found = list(same.order_by("entry_id")[:limit])
    if len(found) < limit:
        newer = leaves.filter(seal_number__gt=after.seal_number)
        found += newer.order_by("seal_number", "entry_id")[: limit - len(found)]
    return found
