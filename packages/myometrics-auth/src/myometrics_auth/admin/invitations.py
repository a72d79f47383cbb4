"""Invitations in the admin site, through the API's services."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from rest_framework.exceptions import APIException

from myometrics_auth.email_addresses import clean_email
from myometrics_auth.models import Invitation
from myometrics_auth.requests import current_user
from myometrics_auth.selectors import email_problems
from myometrics_auth.services.invitations import (
    invitation_create,
    invitation_resend,
    invitation_revoke,
)
from myometrics_core.read_only_admin import ReadOnlyAdmin
from myometrics_core.users import is_administrator

from .errors import ErrorsAsMessages, error_text
from .privileges import own_privileges, roles_within


class InvitationForm(forms.ModelForm):  # type: ignore[type-arg]
    """Address, role and clinic."""

    class Meta:
        model = Invitation
        fields = ("email", "role", "clinic_name")

    def clean_email(self) -> str:
        email = clean_email(self.cleaned_data["email"])
        if problems := email_problems(email):
            raise forms.ValidationError(problems)
        return email


@admin.register(Invitation)
class InvitationAdmin(ErrorsAsMessages, ReadOnlyAdmin):
    """Pending invitations: add (which sends the mail), send again, revoke.

    Administrators only, and only for roles up to their own.
    """

    form = InvitationForm
    list_display = ("email", "role", "clinic_name", "inviter", "expires_at")
    list_filter = ("role",)
    list_select_related = ("inviter",)
    search_fields = ("email__startswith",)
    search_help_text = _("Start of an e-mail address")
    ordering = ("-created_at",)
    actions = ("resend", "revoke")

    def get_fields(self, request: HttpRequest, obj: Invitation | None = None) -> Any:
        fields = ("email", "role", "clinic_name")
        return fields if obj is None else (*fields, "inviter", "created_at", "expires_at")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        may_add = admin.ModelAdmin.has_add_permission(self, request)
        return may_add and is_administrator(request.user)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("myometrics_auth.delete_invitation")

    def formfield_for_choice_field(
        self, db_field: Any, request: HttpRequest, **options: Any
    ) -> Any:
        if db_field.name == "role":
            roles = roles_within(own_privileges(request))
            options["choices"] = [choice for choice in db_field.choices if choice[0] in roles]
        return super().formfield_for_choice_field(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: Invitation, form: Any, change: bool) -> None:
        made = invitation_create(
            actor=current_user(request),
            email=obj.email,
            role=obj.role,
            clinic_name=obj.clinic_name,
            request=request,
        )
        obj.pk = made.pk

    @admin.action(description=_("Send the selected invitations again"), permissions=["add"])
    def resend(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        """Send new links; the old ones stop working."""
        count = self._each(invitation_resend, request, queryset)
        text = ngettext("%d invitation sent again.", "%d invitations sent again.", count)
        messages.success(request, text % count)

    @admin.action(description=_("Revoke the selected invitations"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Invitation]) -> None:
        count = self._each(invitation_revoke, request, queryset)
        text = ngettext("%d invitation revoked.", "%d invitations revoked.", count)
        messages.success(request, text % count)

    def _each(
        self, act: Callable[..., object], request: HttpRequest, queryset: QuerySet[Invitation]
    ) -> int:
        done = 0
        for key in queryset.values_list("pk", flat=True):
            try:
                act(actor=current_user(request), invitation_id=key, request=request)
                done += 1
            except APIException as error:
                messages.error(request, error_text(error))
        return done
