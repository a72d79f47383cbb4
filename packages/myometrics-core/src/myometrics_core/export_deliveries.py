"""Other ways to hand over an export than in the answer itself (``?delivery=…``).

The package with the endpoint knows none of them; a package that has one registers it.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = [
    "ExportDelivery",
    "deliver_export",
    "export_deliveries",
    "register_export_delivery",
]


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
