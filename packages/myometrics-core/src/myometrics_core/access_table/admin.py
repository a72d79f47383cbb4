"""Django admin of the access table."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..read_only_admin import ReadOnlyAdmin
from .models import Access
from .services import address_keys

__all__ = ["AccessAdmin"]


@admin.register(Access)
class AccessAdmin(ReadOnlyAdmin):
    """Newest first. The search takes a complete user id or IP address; both columns are indexed."""

    list_display = (
        "timestamp",
        "user_id",
        "ip_address",
        "method",
        "endpoint",
        "status",
        "milliseconds",
    )
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("user_id",)
    search_help_text = _("A user's id or an IP address, whole.")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Return the accesses from an address, if the term is one, else those of that user id."""
        term = search_term.strip()
        if not term:
            return queryset, False
        keys = address_keys(term)
        found = queryset.filter(address_key__in=keys) if keys else queryset.filter(user_id=term)
        return found, False
