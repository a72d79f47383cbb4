"""A person's own audit entries, for export and erasure. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db import router

from myometrics_core.export_tables import ExportTable
from myometrics_core.personal_data import PersonalDataSection

from .entries import entry_json
from .erasures import entries_release_user
from .models import AuditLog
from .rows import DETAIL_COLUMNS
from .selectors import entries_of_user

__all__ = ["AuditLogsSection"]


class AuditLogsSection(PersonalDataSection):
    """What the person did, entry by entry, oldest first."""

    name = "audit_logs"
    order = 40

    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """The person's entries in the API's shape."""
        for row in entries_of_user(user):
            yield entry_json(row)

    def export_table(self, user: Any) -> ExportTable:
        """The same entries as plain columns."""
        return ExportTable(
            queryset=AuditLog.objects.filter(user_id=user.pk).order_by("timestamp", "id"),
            columns={name: name for name in DETAIL_COLUMNS},
        )

    def erase(self, user: Any) -> None:
        """Erase or release the person's entries, as ``ON_USER_DELETE`` says."""
        entries_release_user(user=user, using=router.db_for_write(AuditLog))
