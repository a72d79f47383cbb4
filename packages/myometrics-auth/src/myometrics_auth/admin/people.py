"""Accounts in the admin site.

Changes go through the same services as the API's, so they leave the same traces, and the last
active administrator stays.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from myometrics_auth.activities import publish_user_change
from myometrics_auth.email_addresses import clean_email
from myometrics_auth.models import User
from myometrics_auth.selectors import has_second_factor, second_factors_in_use, users_in
from myometrics_auth.services.second_factor_enrolment import second_factor_remove
from myometrics_auth.services.users import email_problems, user_delete, user_update
from myometrics_core.errors import Conflict

__all__ = ["UserAdmin"]


class FreeAddressForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose e-mail address must be one, and free."""

    def clean_email(self) -> str:
        """The address in its stored form; raises ``ValidationError``."""
        email = clean_email(self.cleaned_data["email"])
        if problems := email_problems(email, but=self.instance):
            raise forms.ValidationError(problems)
        return email


class UserAddForm(FreeAddressForm, DjangoUserAdmin.add_form):  # type: ignore[misc]
    """A new account: address, password and role."""

    class Meta:
        model = User
        fields = ("email", "role")


class UserForm(FreeAddressForm, UserChangeForm):  # type: ignore[type-arg]
    """An account as it is."""

    class Meta:
        model = User
        fields = (
            "email",
            "password",
            *User.PROFILE_FIELDS,
            "role",
            "is_active",
            "is_staff",
            "is_superuser",
            "groups",
            "user_permissions",
        )


class UserAdmin(DjangoUserAdmin):  # type: ignore[type-arg]
    """People: found by name or address, changed and erased as through the API."""

    form = UserForm
    add_form = UserAddForm
    ordering = ("email",)
    list_display = (
        "email",
        "first_name",
        "last_name",
        "role",
        "clinic_name",
        "is_active",
        "last_login",
    )
    list_filter = ("role", "is_active", "is_staff")
    search_fields = ("search_text",)
    search_help_text = _("Part of a name or an e-mail address")
    show_full_result_count = False
    list_per_page = 50
    readonly_fields = ("last_login", "date_joined", "second_factor")
    actions = ("remove_second_factor",)
    fieldsets = (
        (None, {"fields": ("email", "password", "second_factor")}),
        (_("Person"), {"fields": (*User.PROFILE_FIELDS, "role", "is_active")}),
        (
            _("Admin site"),
            {
                "classes": ("collapse",),
                "fields": ("is_staff", "is_superuser", "groups", "user_permissions"),
            },
        ),
        (_("Dates"), {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "role", "password1", "password2")}),
    )

    @admin.display(description=_("second factor"), boolean=True)
    def second_factor(self, user: Any) -> bool:
        """Whether the person signs in with one."""
        return has_second_factor(user)

    @admin.action(
        description=_("Remove the second factor (person has lost it)"), permissions=["change"]
    )
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Let people who lost app and codes sign in with the password alone."""
        enrolled = list(queryset.filter(totp_device__in=second_factors_in_use()))
        for user in enrolled:
            with transaction.atomic():
                second_factor_remove(user=user)
                self._publish(request, user, "user_updated", {"changed": {"second_factor": {}}})
        count = len(enrolled)
        text = ngettext("%d second factor removed.", "%d second factors removed.", count)
        messages.success(request, text % count)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """As the API searches."""
        return users_in(queryset, search_term), False

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """Only the people: what goes with them may be millions of rows, and is not vetoed."""
        people = [str(person) for person in objs]
        return people, {self.opts.verbose_name_plural: len(people)}, set(), []

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Create, or change through the service."""
        if not change:
            super().save_model(request, obj, form, change)
            self._publish(request, obj, "user_created", {"role": obj.role})
            return
        columns = {field.name for field in self.opts.concrete_fields}
        changes = {
            name: form.cleaned_data[name]
            for name in form.changed_data
            if name in columns and name != "password"
        }
        user_update(actor=request.user, user_id=obj.pk, changes=changes, request=request)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Groups and permissions."""
        super().save_related(request, form, formsets, change)
        changed = {"groups", "user_permissions"} & set(form.changed_data)
        if change and changed:
            details: dict[str, Any] = {"changed": {name: {} for name in sorted(changed)}}
            self._publish(request, form.instance, "user_updated", details)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Erase one."""
        user_delete(actor=request.user, user_id=obj.pk, request=request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Erase several, or none."""
        with transaction.atomic():
            for user in queryset:
                self.delete_model(request, user)

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Set a person's password, or disable it; all their sessions end."""
        with transaction.atomic():
            response = super().user_change_password(request, *args, **kwargs)
            # A form that contradicts itself leads back to itself, and has changed nothing.
            if response.status_code == 302 and response["Location"] != request.get_full_path():
                user = self.get_object(request, args[0] if args else kwargs["id"])
                self._publish(request, user, "user_updated", {"changed": {"password": {}}})
        return response

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The form; a refused change is said on it."""
        return _said_in_place(request, super().changeform_view, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The question whether to erase; a refusal is said on it."""
        return _said_in_place(request, super().delete_view, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """The list; an action that is refused says so."""
        return _said_in_place(request, super().changelist_view, *args, **kwargs)

    def _publish(self, request: HttpRequest, user: Any, action: str, details: Any) -> None:
        publish_user_change(
            action, actor=request.user, user_id=user.pk, details=details, request=request
        )


def _said_in_place(request: HttpRequest, view: Any, *args: Any, **kwargs: Any) -> Any:
    try:
        return view(request, *args, **kwargs)
    except Conflict as refusal:
        messages.error(request, str(refusal.detail))
        return HttpResponseRedirect(request.get_full_path())


if not User._meta.swapped:
    admin.site.register(User, UserAdmin)
