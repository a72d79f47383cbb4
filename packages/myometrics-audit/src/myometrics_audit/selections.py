"""Which entries a reader asks for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.db import connections
from django.db.models import Q

from myometrics_core.times import utc_day_start

from .counts import entry_scope
from .models import AuditLog

__all__ = ["Selection"]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The filters of ``GET /audit-logs/``; they combine. Days are whole UTC days, inclusive."""

    user_id: Any = None
    action: str | None = None
    resource_type: str | None = None
    start_date: date | None = None
    end_date: date | None = None

    @property
    def scope(self) -> str | None:
        """The scope of rolled-up counts that serves this selection; ``None`` when none does."""
        return entry_scope(
            user_id=self.user_id, action=self.action, resource_type=self.resource_type
        )

    def condition(self) -> Q:
        """The selection as a condition on ``AuditLog``."""
        lookups = {"=": "", ">=": "__gte", "<": "__lt"}
        return Q(**{name + lookups[operator]: value for name, operator, value in self._terms()})

    def where(self, using: str) -> tuple[str, list[Any]]:
        """The selection as SQL to append to a WHERE on ``AuditLog`` as ``a``, and its values."""
        sql, values = "", []
        for name, operator, value in self._terms():
            field: Any = AuditLog._meta.get_field(name.removesuffix("_id"))
            sql += f' AND a."{field.column}" {operator} %s'
            values.append(field.get_db_prep_value(value, connections[using]))
        return sql, values

    def _terms(self) -> Iterator[tuple[str, str, Any]]:
        for name in ("user_id", "action", "resource_type"):
            if getattr(self, name) is not None:
                yield name, "=", getattr(self, name)
        if self.start_date is not None:
            yield "timestamp", ">=", utc_day_start(self.start_date)
        if self.end_date is not None and self.end_date < date.max:
            yield "timestamp", "<", utc_day_start(self.end_date + timedelta(days=1))
