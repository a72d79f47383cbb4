"""The health log in Django's admin site."""

from __future__ import annotations

from django.contrib import admin

from ..read_only_admin import ReadOnlyAdmin
from .models import HealthState

__all__ = ["HealthStateAdmin"]


@admin.register(HealthState)
class HealthStateAdmin(ReadOnlyAdmin):
    """The state last told of, and the one that has yet to prove lasting."""

    list_display = [field.name for field in HealthState._meta.fields]
    search_fields = ("status",)
