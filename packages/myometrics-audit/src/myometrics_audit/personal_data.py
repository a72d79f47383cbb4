"""A user's audit entries, for export and erasure. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.db import router

from myometrics_core.personal_data import ExportTable, PersonalDataSection

from .listing.selectors import entries_of_user
from .log.entry_json import entry_json
from .log.models import AuditLog
from .log.rows import DETAIL_COLUMNS
from .sealing.erasures import entries_release_user

__all__ = ["AuditLogsSection"]


class AuditLogsSection(PersonalDataSection):
    """The entries of the user's actions, oldest first."""

    name = "audit_logs"
    order = 40

    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """Yield the user's entries in the API's format."""
        for row in entries_of_user(user):
            yield entry_json(row)

    def export_table(self, user: Any) -> ExportTable:
        """Return the same entries as columns."""
        return ExportTable(
            queryset=AuditLog.objects.filter(user_id=user.pk).order_by("timestamp", "id"),
            columns={name: name for name in DETAIL_COLUMNS},
        )

    def erase(self, user: Any) -> None:
        """Erase or retain the user's entries, depending on ``ON_USER_DELETE``."""
        entries_release_user(user=user, using=router.db_for_write(AuditLog))
