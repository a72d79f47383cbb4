"""Pagination of the audit log, for the API and the admin site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Page
from django.utils.functional import cached_property

from myometrics_core.api import PagePagination
from myometrics_core.read_only_admin import CappedPaginator

from .pages import entries_count, entries_page


class EntryPagination(PagePagination):
    """Numbered pages of a :class:`Selection`; one statement reads count and rows."""

    def count(self, queryset: Any) -> int:
        total, self._rows = entries_page(queryset, (self.number - 1) * self.size, self.size)
        return total

    def rows(self, queryset: Any, offset: int, limit: int) -> Sequence[Any]:
        return self._rows


class EntryPaginator(CappedPaginator):
    """Pagination for Django's admin site; selections are counted without a cap."""

    @cached_property
    def count(self) -> int:
        entries: Any = self.object_list
        if entries.selection is None:
            return super().count
        return entries_count(entries.selection, using=entries.db)

    def page(self, number: Any) -> Page[Any]:
        entries: Any = self.object_list
        if entries.selection is None:
            return super().page(number)
        number = self.validate_number(number)
        offset = (number - 1) * self.per_page
        _, rows = entries_page(entries.selection, offset, self.per_page, using=entries.db)
        return Page(entries.filter(pk__in=[row["id"] for row in rows]), number, self)


class SealPaginator(CappedPaginator):
    """Seals are numbered from 1 without gaps, so the newest number is their count."""

    @cached_property
    def count(self) -> int:
        newest = self.object_list.order_by("-number").first()  # type: ignore[attr-defined]
        return newest.number if newest else 0
