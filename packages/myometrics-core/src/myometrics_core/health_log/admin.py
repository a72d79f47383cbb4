"""Django admin of the health log."""

from django.contrib import admin

from ..read_only_admin import InternalAdmin
from .models import HealthState


@admin.register(HealthState)
class HealthStateAdmin(InternalAdmin):
    """The single row that all workers share."""

    list_display = ("checked_at", "status", "told_down")
