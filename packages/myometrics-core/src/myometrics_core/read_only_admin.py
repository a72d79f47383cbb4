"""The base of admin pages for records that nobody edits by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.paginator import Paginator
from django.http import HttpRequest
from django.utils.functional import cached_property

from .settings import core_settings

__all__ = ["CappedPaginator", "InternalAdmin", "ReadOnlyAdmin"]

COUNTED_TO = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts to 10,000 and no further: beyond, people search instead of turning pages."""

    @cached_property
    def count(self) -> int:
        """The number of rows, or 10,000 if there are more."""
        rows: Any = self.object_list
        return int(rows[:COUNTED_TO].count())


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows to those who may view them; offers no way to add, change or remove one.

    Quick on large tables: it counts no further than people turn pages.
    """

    actions: Any = None
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Never."""
        return False


class InternalAdmin(ReadOnlyAdmin):
    """Rows that a package keeps for its own work: they have pages, for diagnosis, but no links.

    ``MYOMETRICS["ADMIN_SHOWS_INTERNALS"]`` lists them in the index.
    """

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Decides about the index; the pages follow the view permission.

        The page of the app, to which their breadcrumbs link, lists them all the same.
        """
        match = request.resolver_match
        is_listed = core_settings.ADMIN_SHOWS_INTERNALS or (
            match is not None and match.url_name == "app_list"
        )
        return is_listed and super().has_module_permission(request)
