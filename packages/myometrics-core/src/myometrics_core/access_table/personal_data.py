"""Export and erasure of a user's accesses. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db import router
from django.db.models import QuerySet

from ..batches import read_in_batches
from ..export_tables import ExportTable
from ..personal_data import PersonalDataSection
from .models import Access
from .services import accesses_release_user

__all__ = ["AccessesSection"]

COLUMNS = (
    "timestamp",
    "method",
    "endpoint",
    "status",
    "milliseconds",
    "ip_address",
    "request_id",
)


class AccessesSection(PersonalDataSection):
    """The user's requests, oldest first."""

    name = "accesses"
    order = 60

    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """Yield each access with its time, route, status, duration, address and request id."""
        for access in read_in_batches(_accesses(user).values("id", *COLUMNS)):
            yield {name: access[name] for name in COLUMNS}

    def export_table(self, user: Any) -> ExportTable:
        """Return the same records as columns of one query."""
        return ExportTable(queryset=_accesses(user), columns={name: name for name in COLUMNS})

    def erase(self, user: Any) -> None:
        """Anonymize the user's accesses; the rows stay."""
        accesses_release_user(user=user)


def _accesses(user: Any) -> QuerySet[Access]:
    rows = Access.objects.using(router.db_for_read(Access))
    return rows.filter(user_id=str(user.pk)).order_by("id")
