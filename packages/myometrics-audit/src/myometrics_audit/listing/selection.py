"""The filters of the log, and the entries that they select."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from functools import cached_property
from typing import Any

from django.db.models import Q

from myometrics_core.times import utc_day_start

from ..log.models import AuditLog
from ..log.querysets import AuditLogQuerySet
from ..sealing.counts import COUNTED_COLUMNS, entry_scope

NOT_COLUMNS = ("start_date", "end_date", "max_id")


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The filters of ``GET /audit-logs/``, combined with AND. Days are UTC days, both inclusive.

    ``max_id`` leaves out newer entries, so that they don't shift pages. The other fields are
    columns, compared for equality.
    """

    user_id: Any = None
    action: str | None = None
    resource_type: str | None = None
    resource_id: str | None = None
    data_subject: str | None = None
    start_date: date | None = None
    end_date: date | None = None
    max_id: int | None = None

    @property
    def has_span(self) -> bool:
        """Whether the selection is limited by days."""
        return self.start_date is not None or self.end_date is not None

    @property
    def since(self) -> datetime | None:
        """The first moment of the days."""
        return None if self.start_date is None else utc_day_start(self.start_date)

    @property
    def until(self) -> datetime | None:
        """The first moment after the days."""
        if self.end_date is None or self.end_date == date.max:
            return None
        return utc_day_start(self.end_date + timedelta(days=1))

    @cached_property
    def scope(self) -> str | None:
        """The scope of the stored counts for this selection; ``None`` if there is none."""
        columns = self._columns()
        is_counted = self.max_id is None and columns.keys() <= set(COUNTED_COLUMNS)
        return entry_scope(**columns) if is_counted else None

    def condition(self) -> Q:
        """Return the selection as a condition on ``AuditLog``."""
        lookups = {"=": "", ">": "__gt", ">=": "__gte", "<": "__lt", "<=": "__lte"}
        return Q(**{name + lookups[operator]: value for name, operator, value in self.terms()})

    def terms(self) -> Iterator[tuple[str, str, Any]]:
        """Yield the conditions, combined with AND: column, operator, value."""
        for name, value in self._columns().items():
            yield name, "=", value
        if self.data_subject is not None:
            # The condition of the partial index.
            yield "data_subject", ">", ""
        if self.max_id is not None:
            yield "id", "<=", self.max_id
        if self.since is not None:
            yield "timestamp", ">=", self.since
        if self.until is not None:
            yield "timestamp", "<", self.until

    def _columns(self) -> dict[str, Any]:
        """Map column → required value."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        columns = {name: value for name, value in values.items() if name not in NOT_COLUMNS}
        return {name: value for name, value in columns.items() if value is not None}


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
