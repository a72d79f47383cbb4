"""Forms of the admin site's sign-in. They validate format; services check passwords and codes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm, AdminPasswordChangeForm
from django.core.validators import MaxLengthValidator
from django.utils.translation import gettext_lazy as _

from .models import User
from .selectors import has_second_factor
from .serializers import MAX_CODE_LENGTH, MAX_PASSWORD_LENGTH


class PasswordLengthForm(forms.BaseForm):
    """Base form that limits its password fields to the maximum length of the API."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            if isinstance(field.widget, forms.PasswordInput):
                field.validators.append(MaxLengthValidator(MAX_PASSWORD_LENGTH))


class PasswordForm(PasswordLengthForm, AdminAuthenticationForm):
    """E-mail address and password."""

    def clean(self) -> dict[str, Any]:
        return self.cleaned_data


class CodeInput(forms.TextInput):
    """An input that never renders the submitted value."""

    def format_value(self, value: Any) -> None:
        return None


class SecondFactorForm(forms.Form):
    """A code of the authenticator app, or a recovery code."""

    code = forms.CharField(
        label=_("Code"),
        max_length=MAX_CODE_LENGTH,
        widget=CodeInput(
            attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}
        ),
    )


class EnrolmentForm(forms.Form):
    """The first code of an authenticator app."""

    code = forms.CharField(
        label=_("Code"),
        max_length=MAX_CODE_LENGTH,
        # No autofocus: it would scroll the QR code out of view.
        widget=CodeInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


class ReauthenticationForm(PasswordLengthForm, forms.Form):
    """The password or a code of ``user``; ``proof`` is the one that was entered."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True}),
    )
    code = forms.CharField(
        label=_("Code"),
        max_length=MAX_CODE_LENGTH,
        required=False,
        widget=CodeInput(attrs={"autocomplete": "one-time-code", "spellcheck": "false"}),
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not user.has_usable_password():
            del self.fields["password"]
        if not has_second_factor(user):
            del self.fields["code"]

    @property
    def proof(self) -> dict[str, str]:
        given = {name: text for name, text in self.cleaned_data.items() if text}
        return dict(list(given.items())[:1])

    def clean(self) -> dict[str, Any]:
        if not self.errors and not self.proof:
            raise forms.ValidationError(_("Enter your password or a code."))
        return self.cleaned_data


class OwnPasswordForm(PasswordLengthForm, AdminPasswordChangeForm):
    """The old password and the new password twice."""

    def clean_old_password(self) -> str:
        return self.cleaned_data["old_password"]


class VerificationForm(PasswordLengthForm, forms.Form):
    """The account's password, on a page that a mail links to."""

    password = forms.CharField(
        label=_("Password"),
        strip=False,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
    )

    def clean_password(self) -> str:
        """Refuse an empty password: only the form without the field means "without a password"."""
        password: str = self.cleaned_data["password"]
        if "password" in self.data and not password:
            raise forms.ValidationError(self.fields["password"].error_messages["required"])
        return password
