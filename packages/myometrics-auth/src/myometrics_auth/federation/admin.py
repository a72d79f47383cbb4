"""Admin site pages of identities; read-only. Identities are linked and unlinked by their users."""

from __future__ import annotations

from django.contrib import admin

from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin

from .models import (
    ErasedIdentity,
    FederatedSession,
    ForeignToken,
    Identity,
    LinkRequest,
    SecondStep,
    SignInFlow,
)


@admin.register(Identity)
class IdentityAdmin(ReadOnlyAdmin):
    """Accounts at identity providers, by user."""

    list_display = ("user", "provider", "email", "created_at")
    list_filter = ("provider",)
    list_select_related = ("user",)
    search_fields = ("user__email__startswith", "email__istartswith", "subject__startswith")
    ordering = ("-pk",)


@admin.register(FederatedSession)
class FederatedSessionAdmin(InternalAdmin):
    """Sessions that began at a provider."""

    list_display = ("session", "identity", "is_of_bearer")
    list_select_related = ("session", "identity")


@admin.register(ForeignToken)
class ForeignTokenAdmin(InternalAdmin):
    """Tokens of providers; only hashes are stored."""

    list_display = ("token_hash", "state", "provider", "refusal", "expires_at")
    list_filter = ("state",)
    fields = ("token_hash", "state", "provider", "session", "refusal", "expires_at", "kept_until")


@admin.register(SignInFlow, SecondStep, LinkRequest)
class PendingAdmin(InternalAdmin):
    """Sign-ins and links that are not finished."""

    list_display = ("__str__", "expires_at")
    ordering = ("-expires_at",)


@admin.register(ErasedIdentity)
class ErasedIdentityAdmin(InternalAdmin):
    """Hashes of the identities of erased users."""

    list_display = ("identity_hash", "erased_at", "expires_at")
    ordering = ("-erased_at",)
