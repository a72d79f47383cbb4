"""Passkeys in Django's admin site."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from myometrics_auth.admin.errors import ErrorsAsMessages, require_recent_sign_in
from myometrics_auth.admin.privileges import require_rights_over
from myometrics_auth.requests import current_user
from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin

from .models import Passkey, PasskeyChallenge
from .services import passkeys_remove


@admin.register(Passkey)
class PasskeyAdmin(ErrorsAsMessages, ReadOnlyAdmin):
    """Passkeys by user; they can be removed."""

    actions = ()
    list_display = ("user", "name", "created_at", "last_used_at", "is_synced", "attestation")
    list_filter = ("is_synced", "attestation")
    list_select_related = ("user",)
    search_fields = ("user__email__startswith",)
    search_help_text = _("Start of an e-mail address")
    ordering = ("-created_at",)
    fields = (
        *("user", "name", "created_at", "last_used_at", "is_synced"),
        *("attestation", "aaguid", "sign_count"),
    )

    def has_delete_permission(self, request: HttpRequest, obj: Passkey | None = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def delete_model(self, request: HttpRequest, obj: Passkey) -> None:
        self._remove(request, [obj])

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Passkey]) -> None:
        self._remove(request, list(queryset))

    def _remove(self, request: HttpRequest, passkeys: list[Passkey]) -> None:
        require_recent_sign_in(request, "disable_mfa")
        owners: Any = {passkey.user_id for passkey in passkeys}
        require_rights_over(request, get_user_model()._base_manager.filter(pk__in=owners))
        passkeys_remove(actor=current_user(request), passkeys=passkeys, request=request)


@admin.register(PasskeyChallenge)
class PasskeyChallengeAdmin(InternalAdmin):
    """Challenges that were not answered yet, until the sweep deletes them."""

    list_display = ("challenge", "purpose", "expires_at")
    ordering = ("-expires_at",)
