"""Pagination of the audit log, for the API and the admin site."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Page
from django.utils.functional import cached_property

from myometrics_core.api import PagePagination
from myometrics_core.read_only_admin import CappedPaginator

from .selectors import entries_count, entries_page, entry_rows_page

__all__ = ["EntryPagination", "EntryPaginator", "SealPaginator"]


class EntryPagination(PagePagination):
    """Core's numbered pages of a :class:`Selection`; reads count and rows together."""

    def count(self, queryset: Any) -> int:
        """Return the exact number of entries on all pages."""
        offset = (self.number - 1) * self.size
        total, self._rows = entry_rows_page(queryset, offset, self.size)
        return total

    def rows(self, queryset: Any, offset: int, limit: int) -> Sequence[Any]:
        """Return the rows that :meth:`count` has read."""
        return self._rows


class EntryPaginator(CappedPaginator):
    """Pagination for Django's admin site; selections are counted without a cap."""

    @cached_property
    def count(self) -> int:
        """The number of entries on all pages; exact if the list is a selection."""
        entries: Any = self.object_list
        return super().count if entries.selection is None else entries_count(entries)

    def page(self, number: Any) -> Page[Any]:
        """Return a page; raise ``InvalidPage`` past the end."""
        number = self.validate_number(number)
        offset = (number - 1) * self.per_page
        rows = entries_page(self.object_list, offset, self.per_page)  # type: ignore[arg-type]
        return Page(rows, number, self)


class SealPaginator(CappedPaginator):
    """Seals are numbered from 1 without gaps, so the newest number is their count."""

    @cached_property
    def count(self) -> int:
        """The number of the newest seal."""
        newest = self.object_list.order_by("-number").first()  # type: ignore[attr-defined]
        return newest.number if newest else 0
