"""User administration in the admin site.

Changes use the same services as the API: they publish the same events and protect the last active
administrator. Staff who are not superusers can't grant more than their own rights, nor edit users
with more rights: the pages don't offer it, and a forged request returns 403.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timezone import localtime
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from myometrics_auth.email_addresses import clean_email
from myometrics_auth.events import publish_user_change
from myometrics_auth.forms import PasswordLengthForm
from myometrics_auth.models import User
from myometrics_auth.requests import current_user
from myometrics_auth.selectors import (
    email_problems,
    has_second_factor,
    users_in,
    users_with_second_factor,
)
from myometrics_auth.services.notices import notice_send
from myometrics_auth.services.second_factor import second_factor_remove
from myometrics_auth.services.users import (
    FLAGS,
    administrator_kept,
    deletion_conflicts_reported,
    email_conflicts_reported,
    unreserved_require,
    user_delete,
    user_update,
)
from myometrics_auth.services.verification import password_disable
from myometrics_auth.sign_in_methods import count_sign_in_methods
from myometrics_core.db import atomic_write
from myometrics_core.read_only_admin import FilterCheckedAdmin

from .errors import ErrorsAsMessages, require_recent_sign_in
from .privileges import (
    grantable_groups,
    grantable_permissions,
    has_rights_over,
    own_privileges,
    require_rights_over,
    roles_within,
)


class UniqueEmailForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form with a valid e-mail address that no other account has."""

    def clean_email(self) -> str:
        """Return the address in its stored form; raise ``ValidationError``.

        Accepts an unchanged address, which may predate the rules for new addresses.
        """
        email: str = self.cleaned_data["email"]
        if not self.instance._state.adding and email == self.initial.get("email"):
            return email
        email = clean_email(email)
        if problems := email_problems(email, excluding=self.instance):
            raise forms.ValidationError(problems)
        return email


class PasswordForm(PasswordLengthForm, DjangoUserAdmin.change_password_form):  # type: ignore[misc]
    """Form for setting another user's password."""


class UserAddForm(PasswordLengthForm, UniqueEmailForm, DjangoUserAdmin.add_form):  # type: ignore[misc]
    """Form for a new account: address, password and role."""

    class Meta:
        model = User
        fields = ("email", "role")


class UserForm(UniqueEmailForm, UserChangeForm):  # type: ignore[type-arg]
    """Form for editing an account."""

    class Meta(UserChangeForm.Meta):
        model = User


class UserAdmin(ErrorsAsMessages, FilterCheckedAdmin, DjangoUserAdmin):  # type: ignore[type-arg]
    """User administration: search, edit and erase through the API's services."""

    form = UserForm
    add_form = UserAddForm
    change_password_form = PasswordForm
    ordering = ("email",)
    list_display = ("address", "name", "role", "clinic", "is_active", "signed_in")
    list_filter = ("role", "is_active", "is_staff")
    search_fields = ("search_text",)
    search_help_text = _("Part of a name or an e-mail address")
    show_full_result_count = False
    list_per_page = 50
    readonly_fields = ("last_login", "date_joined", "verified_at", "second_factor")
    actions = ("remove_second_factor",)
    fieldsets = (
        (None, {"fields": ("email", "password", "second_factor")}),
        (_("Profile"), {"fields": User.PROFILE_FIELDS}),
        (_("Access"), {"fields": ("role", "is_active")}),
        (
            _("Admin site"),
            {
                "classes": ("collapse",),
                "fields": ("is_staff", "is_superuser", "groups", "user_permissions"),
            },
        ),
        (_("Dates"), {"fields": ("last_login", "date_joined", "verified_at")}),
    )
    add_fieldsets = (
        (None, {"classes": ("wide",), "fields": ("email", "role", "password1", "password2")}),
    )

    @admin.display(description=_("e-mail address"), ordering="email")
    def address(self, user: User) -> SafeString:
        name, _at, domain = user.email.rpartition("@")
        return format_html("{}<wbr>@{}", name, domain)

    @admin.display(description=_("name"), ordering="last_name")
    def name(self, user: User) -> str:
        return user.get_full_name()

    @admin.display(description=_("clinic"), ordering="clinic_name")
    def clinic(self, user: User) -> str:
        return Truncator(user.clinic_name).chars(30)

    @admin.display(description=_("signed in"), ordering="last_login")
    def signed_in(self, user: User) -> str:
        at = user.last_login
        return "" if at is None else date_format(localtime(at), "SHORT_DATE_FORMAT")

    @admin.display(description=_("second factor"), boolean=True)
    def second_factor(self, user: User) -> bool:
        return has_second_factor(user)

    @admin.action(
        description=_("Remove the second factor of the selected users"), permissions=["change"]
    )
    def remove_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        """Let users who lost app and recovery codes sign in with the password alone.

        Users without a password, who signed in with a passkey, get one by a reset mail.
        """
        require_recent_sign_in(request, "disable_mfa")
        require_rights_over(request, queryset)
        count = 0
        for enrolled in list(users_with_second_factor(queryset)):
            with atomic_write():
                user = _locked(enrolled)
                if user is None:  # deleted concurrently
                    continue
                could_sign_in = count_sign_in_methods(user)
                second_factor_remove(user=user)
                if could_sign_in and not count_sign_in_methods(user):
                    password_disable(user=user)
                self._publish(request, user, "user_updated", {"changed": {"second_factor": {}}})
                notice_send(user=user, notice="second_factor_removed", request=None)
                count += 1
        text = ngettext("%d second factor removed.", "%d second factors removed.", count)
        messages.success(request, text % count)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[User], search_term: str
    ) -> tuple[QuerySet[User], bool]:
        return users_in(queryset, search_term), False

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, Any, Any]:
        """List only the users: related data may be millions of rows, and is deleted with them."""
        require_recent_sign_in(request, "delete_account")  # before the user confirms
        users = [str(user) for user in objs]
        return users, {self.opts.verbose_name_plural: len(users)}, set(), []

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_change_permission(request, obj) and has_rights_over(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return super().has_delete_permission(request, obj) and has_rights_over(request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fields = super().get_readonly_fields(request, obj)
        return fields if request.user.is_superuser else (*fields, *FLAGS)

    def formfield_for_choice_field(
        self, db_field: Any, request: HttpRequest, **options: Any
    ) -> Any:
        if db_field.name == "role":
            roles = roles_within(own_privileges(request))
            options["choices"] = [choice for choice in db_field.choices if choice[0] in roles]
        return super().formfield_for_choice_field(db_field, request, **options)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **options: Any) -> Any:
        if db_field.name == "groups":
            options["queryset"] = grantable_groups(current_user(request))
        if db_field.name == "user_permissions":
            options["queryset"] = grantable_permissions(current_user(request))
        return super().formfield_for_manytomany(db_field, request, **options)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:
        old = self.model._base_manager.filter(pk=obj.pk) if change else ()
        require_rights_over(request, old)
        with (
            email_conflicts_reported(obj.email, excluding=obj if change else None),
            transaction.atomic(),
        ):
            if change:
                columns = {field.name for field in self.opts.concrete_fields} - {"password"}
                changes = {
                    name: form.cleaned_data[name] for name in form.changed_data if name in columns
                }
                if "email" in changes:
                    require_recent_sign_in(request, "change_email")
                if not request.user.is_superuser and set(FLAGS) & set(changes):
                    raise PermissionDenied
                user_update(
                    actor=current_user(request),
                    user_id=obj.pk,
                    changes=changes,
                    request=request,
                    may_blank_names=True,
                )
            else:
                super().save_model(request, obj, form, change)
                unreserved_require(obj)
                self._publish(request, obj, "user_created", {"role": obj.role})
            require_rights_over(request, self.model._base_manager.filter(pk=obj.pk))

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        user = form.instance
        with administrator_kept(user.pk):
            super().save_related(request, form, formsets, change)
            require_rights_over(request, self.model._base_manager.filter(pk=user.pk))
        changed = {"groups", "user_permissions"} & set(form.changed_data)
        if change and changed:
            details: dict[str, Any] = {"changed": {name: {} for name in sorted(changed)}}
            self._publish(request, user, "user_updated", details)

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        require_rights_over(request, [obj])
        require_recent_sign_in(request, "delete_account")
        user_delete(actor=current_user(request), user_id=obj.pk, request=request)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        with deletion_conflicts_reported(), transaction.atomic():
            for user in queryset:
                self.delete_model(request, user)

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._call(self._change_password, request, *args, **kwargs)

    def _change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        change = super().user_change_password
        if request.method != "POST":
            return change(request, *args, **kwargs)
        key = unquote(args[0] if args else kwargs["id"])
        with atomic_write():
            # Lock the row before Django reads it: the form saves every column.
            if found := self.get_object(request, key):
                _locked(found)
            response = change(request, *args, **kwargs)
            # With contradictory input the form redirects to itself without changes.
            if response.status_code == 302 and response["Location"] != request.get_full_path():
                user = self.get_object(request, key)
                self._publish(request, user, "user_updated", {"changed": {"password": {}}})
                notice_send(user=user, notice="password_set", request=None)
        return response

    def _publish(self, request: HttpRequest, user: User, action: str, details: Any) -> None:
        publish_user_change(
            action, actor=current_user(request), user_id=user.pk, details=details, request=request
        )


def _locked(user: User) -> User | None:
    users = type(user)._base_manager.select_for_update(no_key=True)
    return users.filter(pk=user.pk).first()


if not User._meta.swapped:
    admin.site.register(User, UserAdmin)
