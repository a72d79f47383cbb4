"""Django admin of partitions."""

from django.contrib import admin

from myometrics_core.read_only_admin import InternalAdmin

from .models import Partition


@admin.register(Partition)
class PartitionAdmin(InternalAdmin):
    """The partitions of the log, and whether they are closed."""

    list_display = ("table_name", "first_id", "end_id", "closed_at", "oldest", "newest")
    fields = list_display
    readonly_fields = fields
    ordering = ("first_id",)
    sortable_by = ()
