"""Events for reads, which are only published if a package records them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Container, Mapping
from typing import TYPE_CHECKING, Any, Literal

from django.http import HttpRequest

from ..db.transactions import atomic_write
from ..http.addresses import client_address, user_agent
from ..times import utc_now
from .bus import Event, publish

if TYPE_CHECKING:
    from rest_framework.request import Request

Read = Literal["users", "audit_logs", "analytics"]
"""What is read."""

_recorded: list[Callable[[], Container[str]]] = []


def register_recorded_reads(reads: Callable[[], Container[str]]) -> None:
    """Record the reads that ``reads()`` contains. Call it in ``AppConfig.ready``."""
    _recorded[:] = [reads]


def publish_read(
    read: Read,
    *,
    actor_id: Any,
    action: str,
    resource: tuple[str, str],
    request: HttpRequest | Request,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Publish that a user has read something, in a transaction of its own, if it is recorded.

    ``resource`` is a type and an id. Call it after the read, before the response.
    """
    if not any(read in reads() for reads in _recorded):
        return
    with atomic_write():
        publish(
            Event(
                id=f"read:{uuid.uuid4()}",
                actor_id=actor_id,
                action=action,
                resource_type=resource[0],
                resource_id=resource[1],
                occurred_at=utc_now(),
                details=details or {},
                client_address=client_address(request),
                user_agent=user_agent(request),
            )
        )
