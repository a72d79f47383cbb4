"""Django admin of checkpoints."""

from django.contrib import admin

from myometrics_core.read_only_admin import InternalAdmin

from .models import Checkpoint


@admin.register(Checkpoint)
class CheckpointAdmin(InternalAdmin):
    """Signed heads of the tree of seals."""

    list_display = ("size", "created_at", "published_at", "has_quorum")
    fields = ("size", "note", "created_at", "published_at", "has_quorum")
    readonly_fields = fields
    ordering = ("-size",)
    sortable_by = ()
