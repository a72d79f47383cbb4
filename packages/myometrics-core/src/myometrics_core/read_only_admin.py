"""Base classes for admin pages of records that are not edited by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import Paginator
from django.db import DataError, router, transaction
from django.http import HttpRequest
from django.utils.functional import cached_property

from .conf.core_settings import core_settings
from .texts import is_storable

__all__ = ["CappedPaginator", "FilterCheckedAdmin", "InternalAdmin", "ReadOnlyAdmin"]

MAX_COUNT = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts at most 10,000 rows; for more rows, users search instead of paging."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:MAX_COUNT].count())


class FilterCheckedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Handles filters and keys that the database rejects like other invalid ones.

    PostgreSQL accepts no NUL in text, and only valid addresses in an address column.
    """

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        try:
            with transaction.atomic(using=router.db_for_read(self.model)):
                return super().get_changelist_instance(request)
        except (DataError, OverflowError, ValueError) as error:
            # Django redirects to the unfiltered list.
            raise IncorrectLookupParameters(error) from error

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        try:
            is_key = is_storable(object_id)
            return super().get_object(request, object_id, from_field) if is_key else None
        except OverflowError:  # SQLite's driver, for an integer out of range
            return None


class ReadOnlyAdmin(FilterCheckedAdmin):
    """Shows rows to users with the view permission, without adding, changing or deleting.

    Fast on large tables, because it counts at most 10,000 rows.
    """

    actions: Any = None
    paginator = CappedPaginator
    show_full_result_count = False
    list_per_page = 50

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class InternalAdmin(ReadOnlyAdmin):
    """Internal rows: they have pages, and the index lists them with ``ADMIN_SHOWS_INTERNALS``."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the index lists the model; the pages require only the view permission.

        The page of the app, to which breadcrumbs link, always lists it.
        """
        match = request.resolver_match
        is_listed = core_settings.ADMIN_SHOWS_INTERNALS or (
            match is not None and match.url_name == "app_list"
        )
        return is_listed and super().has_module_permission(request)
