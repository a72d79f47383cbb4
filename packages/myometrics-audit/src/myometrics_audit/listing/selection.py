"""The filters of the log, and the entries that they select."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Q

from myometrics_core.times import utc_day_start

from ..log.models import AuditLog
from ..log.querysets import AuditLogQuerySet
from ..sealing.counts import COUNTED_COLUMNS, entry_scope

__all__ = ["SelectedEntries", "Selection", "entries_select"]

DAYS = ("start_date", "end_date")


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
        columns = self._columns()
        return entry_scope(**columns) if columns.keys() <= set(COUNTED_COLUMNS) else None

    def condition(self) -> Q:
        """Return the selection as a condition on ``AuditLog``."""
        lookups = {"=": "", ">=": "__gte", "<": "__lt"}
        return Q(**{name + lookups[operator]: value for name, operator, value in self.terms()})

    def terms(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the conditions, combined with AND: column, operator, value."""
        for name, value in self._columns().items():
            yield name, "=", value
        if self.start_date is not None:
            yield "timestamp", ">=", utc_day_start(self.start_date)
        if self.end_date is not None and self.end_date < date.max:
            yield "timestamp", "<", utc_day_start(self.end_date + timedelta(days=1))

    def _columns(self) -> dict[str, Any]:
        """Map column → required value."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: value for name, value in values.items() if value is not None and name not in DAYS
        }


class SelectedEntries(AuditLogQuerySet):
    """Entries with the :class:`Selection` that they match, which counting and paging use.

    ``selection`` is ``None`` after any other filter.
    """

    selection: Selection | None = None

    def matching(self, selection: Selection) -> SelectedEntries:
        """Return the entries of ``selection``, which replaces a previous selection."""
        base = SelectedEntries(self.model, using=self.db) if self.selection else self
        entries = base.filter(selection.condition())
        entries.selection = selection
        return entries

    def none(self) -> SelectedEntries:
        entries = super().none()
        entries.selection = None
        return entries

    def _clone(self) -> SelectedEntries:
        entries = super()._clone()  # type: ignore[misc]
        entries.selection = self.selection
        return entries

    def _filter_or_exclude(self, negate: bool, args: Any, kwargs: Any) -> SelectedEntries:
        entries = super()._filter_or_exclude(negate, args, kwargs)  # type: ignore[misc]
        if kwargs or any(args):
            entries.selection = None
        return entries


def entries_select(selection: Selection) -> SelectedEntries:
    """Return the entries of a selection, newest first."""
    return SelectedEntries(AuditLog).matching(selection).order_by("-timestamp", "-id")
