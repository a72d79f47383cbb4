"""A user's audit entries, for export and erasure. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import router
from django.db.models import QuerySet

from myometrics_core.db import read_in_batches
from myometrics_core.personal_data import ExportTable, PersonalDataSection

from .log.entry_json import DETAIL_COLUMNS, entry_json
from .log.models import AuditLog
from .sealing.erasures import entries_erase_or_retain


class AuditLogsSection(PersonalDataSection):
    """The entries of the user's actions, oldest first."""

    name = "audit_logs"
    order = 40

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        for row in read_in_batches(_entries_of(user).values(*DETAIL_COLUMNS)):
            yield entry_json(row)

    def export_table(self, user: AbstractBaseUser) -> ExportTable:
        return ExportTable(
            queryset=_entries_of(user), columns={name: name for name in DETAIL_COLUMNS}
        )

    def erase(self, user: AbstractBaseUser) -> None:
        """Erase or retain the user's entries, depending on ``ON_USER_DELETE``."""
        entries_erase_or_retain(user=user, using=router.db_for_write(AuditLog))


def _entries_of(user: AbstractBaseUser) -> QuerySet[AuditLog]:
    return AuditLog.objects.filter(user_id=user.pk).order_by("timestamp", "id")
