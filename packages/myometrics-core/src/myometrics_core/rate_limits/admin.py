"""Django admin of counted requests."""

from __future__ import annotations

from datetime import datetime, timezone

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from ..read_only_admin import InternalAdmin
from .models import CountedRequest


@admin.register(CountedRequest)
class CountedRequestAdmin(InternalAdmin):
    """The current counts. Keys are hashed and don't reveal the user or address."""

    list_display = ("key", "time_counted", "time_expiring")
    search_fields = ("key__startswith",)
    ordering = ("-id",)

    @admin.display(description=_("counted at"))
    def time_counted(self, row: CountedRequest) -> datetime:
        return datetime.fromtimestamp(row.counted_at, timezone.utc)

    @admin.display(description=_("expires at"))
    def time_expiring(self, row: CountedRequest) -> datetime:
        return datetime.fromtimestamp(row.expires_at, timezone.utc)
