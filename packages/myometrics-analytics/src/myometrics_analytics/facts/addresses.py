"""Find the users to whom uploads belong that the source reports under an e-mail address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from myometrics_core.db import SerializationFailure
from myometrics_core.users import (
    address_ownerships,
    address_ownerships_by_key,
    canonical_email,
    existing_user_ids,
)

from .upload_event import UploadEvent


class OwnershipChanged(SerializationFailure):
    """An address got or lost its owner while its uploads were being merged."""


def resolve_addresses(events: Sequence[UploadEvent]) -> list[UploadEvent]:
    """Return ``events`` with the users to whom their addresses belonged at the time of the upload.

    ``user_id`` is ``None`` if an address had no owner then. At most two lookups.
    """
    named = [event for event in events if event.address]
    ids = {event.user_id for event in named if event.user_id is not None}
    existing = existing_user_ids(ids) if ids else set()
    canonical = {
        event.address: canonical_email(event.address)
        for event in named
        if event.user_id not in existing
    }
    ownerships = address_ownerships(set(canonical.values()))

    def resolve(event: UploadEvent) -> UploadEvent:
        if not event.address or event.user_id in existing:
            return event
        for ownership in ownerships.get(canonical[event.address], ()):
            if ownership.includes(event.uploaded_at):
                return replace(event, user_id=ownership.user_id, ownership=ownership.key)
        return replace(event, user_id=None)

    return [resolve(event) for event in events]


def lock_ownerships(events: Iterable[UploadEvent]) -> None:
    """Keep the ownerships of resolved ``events`` unchanged until the transaction ends.

    Raises :class:`OwnershipChanged` if one has changed since it was looked up.
    """
    resolved = [event for event in events if event.ownership]
    if not resolved:
        return
    current = address_ownerships_by_key({event.ownership for event in resolved}, lock=True)
    for event in resolved:
        ownership = current.get(event.ownership)
        if (
            ownership is None
            or ownership.user_id != event.user_id
            or not ownership.includes(event.uploaded_at)
        ):
            raise OwnershipChanged("the owner of an address changed during the merge")
