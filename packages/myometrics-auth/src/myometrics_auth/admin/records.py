"""Sessions, failed sign-ins and other records: read-only, but they can be ended or deleted."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from myometrics_auth.models import (
    AddressOwnership,
    EmailChange,
    KnownDevice,
    RecoveryCode,
    Session,
    SessionQuerySet,
    SignInFailures,
    TotpDevice,
    UsedToken,
)
from myometrics_auth.requests import current_user
from myometrics_auth.services.sessions import sessions_end
from myometrics_core.read_only_admin import InternalAdmin, ReadOnlyAdmin

from .privileges import require_rights_over


class LiveFilter(admin.SimpleListFilter):
    """Filter for live sessions, or ended and expired ones."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("live", _("live")), ("over", _("over"))]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Session]:
        if self.value() == "live":
            return queryset.live()
        if self.value() == "over":
            return queryset.over()
        return queryset


@admin.register(Session)
class SessionAdmin(ReadOnlyAdmin):
    """Sessions of all users; they can be ended."""

    list_display = ("user", "device", "address", "signed_in", "last_seen", "live")
    list_filter = (LiveFilter, "second_factor")
    list_select_related = ("user",)
    search_fields = ("user__email__startswith", "address__startswith")
    search_help_text = _("Start of an e-mail address or of a client address")
    ordering = ("-created_at",)
    actions = ("end_sessions",)

    @admin.display(description=_("device"))
    def device(self, session: Session) -> str:
        return Truncator(session.user_agent).chars(40)

    @admin.display(description=_("signed in"), ordering="created_at")
    def signed_in(self, session: Session) -> str:
        return date_format(localtime(session.created_at), "SHORT_DATETIME_FORMAT")

    @admin.display(description=_("last seen"), ordering="refreshed_at")
    def last_seen(self, session: Session) -> str:
        return date_format(localtime(session.last_seen_at), "SHORT_DATETIME_FORMAT")

    @admin.display(description=_("live"), boolean=True)
    def live(self, session: Session) -> bool:
        return session.is_live

    @admin.action(description=_("End the selected sessions"), permissions=["end"])
    def end_sessions(self, request: HttpRequest, queryset: SessionQuerySet) -> None:
        owners = queryset.live().values("user_id")
        require_rights_over(request, get_user_model()._base_manager.filter(pk__in=owners))
        count = sessions_end(actor=current_user(request), sessions=queryset, request=request)
        text = ngettext("%d session ended.", "%d sessions ended.", count)
        messages.success(request, text % count)

    def has_end_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("myometrics_auth.change_session")


@admin.register(SignInFailures)
class SignInFailuresAdmin(ReadOnlyAdmin):
    """Throttled accounts, by pseudonym; deleting a row resets the throttle."""

    actions = ()
    list_display = ("key", "failures", "evaluated_at")
    ordering = ("-evaluated_at",)
    search_fields = ("key__startswith",)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return admin.ModelAdmin.has_delete_permission(self, request, obj)


@admin.register(KnownDevice)
class KnownDeviceAdmin(InternalAdmin):
    """Families of devices on which users have signed in."""

    list_display = ("user", "family", "last_seen_at")
    list_select_related = ("user",)
    search_fields = ("user__email__startswith",)
    ordering = ("-last_seen_at",)


@admin.register(AddressOwnership)
class AddressOwnershipAdmin(InternalAdmin):
    """Periods in which addresses belong to users; the addresses are not stored."""

    list_display = ("user", "since", "until", "taken_at")
    list_select_related = ("user",)
    search_fields = ("user__email__startswith",)
    fields = ("user", "since", "until", "taken_at")
    ordering = ("-pk",)


@admin.register(TotpDevice)
class TotpDeviceAdmin(InternalAdmin):
    """Authenticator apps by user. The secret is not shown."""

    list_display = ("user", "created_at", "confirmed_at")
    list_select_related = ("user",)
    search_fields = ("user__email__startswith",)
    fields = ("user", "created_at", "confirmed_at")


@admin.register(RecoveryCode)
class RecoveryCodeAdmin(InternalAdmin):
    """Remaining recovery codes by user. Only hashes are stored."""

    list_display = ("id", "user")
    list_select_related = ("user",)
    search_fields = ("user__email__startswith",)
    fields = ("user",)


@admin.register(UsedToken)
class UsedTokenAdmin(InternalAdmin):
    """Used one-time tokens, until the sweep deletes them."""

    list_display = ("token_id", "expires_at")
    ordering = ("-expires_at",)


@admin.register(EmailChange)
class EmailChangeAdmin(InternalAdmin):
    """Changes of addresses, pending and confirmed, until the sweep deletes them."""

    list_display = ("user", "old_email", "new_email", "requested_at", "confirmed_at")
    list_select_related = ("user",)
    ordering = ("-requested_at",)
    fields = ("user", "old_email", "new_email", "requested_at", "confirmed_at")
