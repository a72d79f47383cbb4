"""The filters of a request for entries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from django.db import connections
from django.db.models import Q

from myometrics_core.times import utc_day_start

from ..log.models import AuditLog, EntryCount
from ..sealing.scopes import COUNTED, entry_scope

__all__ = ["Selection"]

_DAYS = ("start_date", "end_date")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The filters of ``GET /audit-logs/``, combined with AND. Days are UTC days, both inclusive.

    The other fields are columns, compared for equality.
    """

    user_id: Any = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    start_date: date | None = None
    end_date: date | None = None

    @property
    def has_span(self) -> bool:
        """Whether the selection is limited by days."""
        return self.start_date is not None or self.end_date is not None

    @cached_property
    def scope(self) -> str | None:
        """The scope of the stored counts for this selection; ``None`` if there is none."""
        equal = self._equal()
        return entry_scope(**equal) if equal.keys() <= set(COUNTED) else None

    def condition(self) -> Q:
        """Return the selection as a condition on ``AuditLog``."""
        lookups = {"=": "", ">=": "__gte", "<": "__lt"}
        return Q(**{name + lookups[operator]: value for name, operator, value in self._terms()})

    def where(self, using: str) -> tuple[str, list[Any]]:
        """Return SQL to append to a WHERE on ``AuditLog`` as ``a``, and its values."""
        sql, values = "", []
        for name, operator, value in self._terms():
            field: Any = AuditLog._meta.get_field(name)
            sql += f' AND a."{field.column}" {operator} %s'
            values.append(field.get_db_prep_value(value, connections[using]))
        return sql, values

    def counted(self, period: EntryCount.Period) -> tuple[str, list[Any]]:
        """Return SQL for a WHERE on ``EntryCount`` that finds the counts, and its values."""
        sql = '"scope" = %s AND "period" = %s'
        values: list[Any] = [self.scope, period.value]
        for operator, day in ((">=", self.start_date), ("<=", self.end_date)):
            if day is not None:
                sql += f' AND "start" {operator} %s'
                values.append(day)
        return sql, values

    def _terms(self) -> Iterator[tuple[str, str, Any]]:
        for name, value in self._equal().items():
            yield name, "=", value
        if self.start_date is not None:
            yield "timestamp", ">=", utc_day_start(self.start_date)
        if self.end_date is not None and self.end_date < date.max:
            yield "timestamp", "<", utc_day_start(self.end_date + timedelta(days=1))

    def _equal(self) -> dict[str, Any]:
        """Map column → required value."""
        asked = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value for name, value in asked.items() if value is not None and name not in _DAYS
        }
