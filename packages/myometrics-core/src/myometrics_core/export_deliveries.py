"""Other ways to deliver an export than in the response itself (``?delivery=…``).

The package with the endpoint imports none of them; a package that has one registers it. Every
export and every download of one is published as an event.
"""

from __future__ import annotations

import uuid
from typing import Any, Final, Protocol

from .activities import Activity, publish
from .client_address import client_address, user_agent
from .times import utc_now
from .transactions import atomic_write
from .users import user_id_json

__all__ = [
    "DATA_EXPORTED",
    "ExportDelivery",
    "deliver_export",
    "export_deliveries",
    "publish_export",
    "register_export_delivery",
]

DATA_EXPORTED: Final = "data_exported"
"""Action of the event that each export, and each download of one, leaves."""


class ExportDelivery(Protocol):
    """Takes on to hand over an export later."""

    def __call__(self, *, user: Any, export_format: str) -> str:
        """Owe ``user`` their data as ``export_format`` (``csv`` or ``json``).

        Returns a sentence for the answer; raises ``ValidationError`` where it can't be done.
        """


_deliveries: dict[str, ExportDelivery] = {}


def register_export_delivery(name: str, delivery: ExportDelivery) -> None:
    """Offer ``?delivery=name``. Call it from ``AppConfig.ready``."""
    _deliveries[name] = delivery


def export_deliveries() -> list[str]:
    """The names on offer."""
    return sorted(_deliveries)


def deliver_export(name: str, *, user: Any, export_format: str) -> str:
    """Have the named delivery take on ``user``'s export; a sentence for the answer (202).

    Raises ``KeyError`` for a name that is not on offer.
    """
    return _deliveries[name](user=user, export_format=export_format)


def publish_export(*, user: Any, export_format: str, delivery: str, request: Any) -> None:
    """Publish that the data of ``user`` were exported, in a transaction of its own.

    ``delivery`` is ``response``, the name of a delivery that was requested, or ``link`` for a
    download by the link that one mailed.
    """
    with atomic_write():
        publish(
            Activity(
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
