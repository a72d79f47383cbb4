"""Registry of export deliveries other than in the response itself (``?delivery=…``).

Every export, and every download of one, is published as an event.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, Protocol

from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest

from ..db.transactions import atomic_write
from ..events.bus import Event, publish
from ..http.addresses import client_address, user_agent
from ..times import utc_now
from ..users.user_model import user_id_json

if TYPE_CHECKING:
    from rest_framework.request import Request

DATA_EXPORTED: Final = "data_exported"
"""Action of the event that each export, and each download of one, publishes."""


class ExportDelivery(Protocol):
    """Accepts an export for later delivery."""

    def __call__(self, *, user: AbstractBaseUser, export_format: str) -> str:
        """Store a job that delivers ``user``'s data as ``export_format`` (``csv`` or ``json``).

        Returns a sentence for the response; raises ``ValidationError`` if delivery is impossible.
        """


_deliveries: dict[str, ExportDelivery] = {}


def register_export_delivery(name: str, delivery: ExportDelivery) -> None:
    """Register a delivery as ``?delivery=name``. Call it in ``AppConfig.ready``."""
    _deliveries[name] = delivery


def export_deliveries() -> list[str]:
    """Return the names of the registered deliveries."""
    return sorted(_deliveries)


def deliver_export(name: str, *, user: AbstractBaseUser, export_format: str) -> str:
    """Request the export of ``user``; return a sentence for the 202. ``KeyError``: unknown name."""
    return _deliveries[name](user=user, export_format=export_format)


def publish_export(
    *, user: AbstractBaseUser, export_format: str, delivery: str, request: HttpRequest | Request
) -> None:
    """Publish an event for an export of ``user``'s data, in a transaction of its own.

    ``delivery`` is ``response``, the name of the requested delivery, or ``link`` for a download by
    a mailed link.
    """
    with atomic_write():
        publish(
            Event(
                id=f"export:{uuid.uuid4()}",
                actor_id=user.pk,
                action=DATA_EXPORTED,
                resource_type="user",
                resource_id=str(user_id_json(user.pk)),
                occurred_at=utc_now(),
                details={"format": export_format, "delivery": delivery},
                client_address=client_address(request),
                user_agent=user_agent(request),
            )
        )
