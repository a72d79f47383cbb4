"""Django admin: notification switches, and the outbox with its dead letters."""

from __future__ import annotations

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from myometrics_core.read_only_admin import CappedPaginator, InternalAdmin, ReadOnlyAdmin

from .models import ExportFile, Message, NotificationSettings
from .services import messages_retry


def _user_search(prefix: str) -> list[str]:
    user_model = get_user_model()
    names = {user_model.USERNAME_FIELD, user_model.get_email_field_name()}
    columns = {field.name for field in user_model._meta.get_fields()}
    return [f"{prefix}__{name}" for name in sorted(names & columns)]


@admin.register(NotificationSettings)
class NotificationSettingsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """The switches of each user."""

    list_filter = ("email_notifications", *NotificationSettings.SWITCHES)
    list_display = ("user", *list_filter)
    list_select_related = ("user",)
    raw_id_fields = ("user",)
    readonly_fields = ("host_switches",)
    paginator = CappedPaginator
    show_full_result_count = False

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return _user_search("user")


@admin.register(Message)
class MessageAdmin(ReadOnlyAdmin):
    """The outbox, read-only; dead letters and dropped messages can be retried."""

    list_display = ("id", "kind", "recipient", "state", "created_at", "settled_at", "last_error")
    list_filter = ("state", "kind")
    list_select_related = ("recipient",)
    ordering = ("-id",)
    actions = ("retry",)

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return _user_search("recipient")

    @admin.action(description=_("Retry dead letters and dropped messages"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Message]) -> None:
        """Queue the selected dead or dropped messages again, with all their attempts."""
        count = messages_retry(messages=queryset)
        text = ngettext("%d message is tried again.", "%d messages are tried again.", count)
        self.message_user(request, text % count, messages.SUCCESS)

    def has_delete_permission(self, request: HttpRequest, obj: Message | None = None) -> bool:
        # Deleting a user cascades to their messages.
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("myometrics_notifications.change_message")


@admin.register(ExportFile)
class ExportFileAdmin(InternalAdmin):
    """Exports that were requested by mail."""

    list_display = (
        "id",
        "user",
        "export_format",
        "state",
        "created_at",
        "expires_at",
        "last_error",
    )
    list_filter = ("state", "export_format")
    list_select_related = ("user",)
    ordering = ("-id",)

    def get_search_fields(self, request: HttpRequest) -> list[str]:
        return _user_search("user")
