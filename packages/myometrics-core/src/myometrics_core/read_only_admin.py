"""The base of admin pages for records that nobody edits by hand."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.paginator import Paginator
from django.db import DataError, router, transaction
from django.http import HttpRequest
from django.utils.functional import cached_property

from .settings import core_settings

__all__ = ["CappedPaginator", "FilterCheckedAdmin", "InternalAdmin", "ReadOnlyAdmin"]

COUNTED_TO = 10_000


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts to 10,000 and no further: beyond, people search instead of turning pages."""

    @cached_property
    def count(self) -> int:
        """The number of rows, or 10,000 if there are more."""
        rows: Any = self.object_list
        return int(rows[:COUNTED_TO].count())


class FilterCheckedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Handles filters and keys that the database refuses as Django handles other invalid ones.

    PostgreSQL accepts no NUL in text, and only addresses in the column of an address.
    """

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """As Django's; raises ``IncorrectLookupParameters``, which shows the unfiltered list."""
        try:
            with transaction.atomic(using=router.db_for_read(self.model)):
                return super().get_changelist_instance(request)
        except (DataError, OverflowError, ValueError) as error:
            raise IncorrectLookupParameters(error) from error

    def get_object(self, request: HttpRequest, object_id: str, from_field: Any = None) -> Any:
        """As Django's: ``None`` for text that can't be a key."""
        try:
            is_key = "\x00" not in object_id
            return super().get_object(request, object_id, from_field) if is_key else None
        except OverflowError:  # SQLite's driver, for a number that no column holds
            return None


class ReadOnlyAdmin(FilterCheckedAdmin):
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
