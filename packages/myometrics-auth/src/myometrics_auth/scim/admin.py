"""Django admin of provisioning; read-only, because the identity provider manages the rows."""

from __future__ import annotations

from django.contrib import admin

from myometrics_core.read_only_admin import ReadOnlyAdmin

from .models import ProvisionedUser, ProvisioningGroup, ProvisioningToken


@admin.register(ProvisioningToken)
class ProvisioningTokenAdmin(ReadOnlyAdmin):
    """Tokens of identity providers. ``manage.py scim_token`` creates and revokes them."""

    list_display = ("provider", "id", "created_at", "expires_at", "used_at")
    list_filter = ("provider",)
    exclude = ("token_hash",)
    ordering = ("provider", "created_at")


@admin.register(ProvisionedUser)
class ProvisionedUserAdmin(ReadOnlyAdmin):
    """Users as identity providers see them."""

    list_display = ("user_name", "provider", "user_id", "is_created", "modified_at", "deleted_at")
    list_filter = ("provider", "is_created")
    search_fields = ("user_name_folded", "external_id")
    exclude = ("user_name_folded",)
    ordering = ("-pk",)


@admin.register(ProvisioningGroup)
class ProvisioningGroupAdmin(ReadOnlyAdmin):
    """Groups of identity providers."""

    list_display = ("display_name", "provider", "external_id", "modified_at")
    list_filter = ("provider",)
    search_fields = ("display_name_folded", "external_id")
    exclude = ("display_name_folded",)
    ordering = ("provider", "display_name")
