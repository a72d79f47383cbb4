"""Passkeys as a second factor of auth's sign-ins, and to confirm one's identity again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.request import Request

from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import User
from myometrics_auth.requests import AnyRequest, current_user
from myometrics_auth.second_factor_kinds import SecondFactor
from myometrics_auth.services.reauthentication import ReauthenticationMethod
from myometrics_auth.sign_in_methods import SignInMethod
from myometrics_auth.tokens import MFA, read_token
from myometrics_core.http import http_request
from myometrics_core.users import parse_user_id

from .conf import admin_origin, allowed_origins
from .models import Passkey, PasskeyChallenge
from .selectors import passkeys_of
from .serializers import AssertionField, PasskeySerializer
from .services import passkey_allow, passkey_take


class PasskeyFactor(SecondFactor):
    """The passkeys of a user."""

    name = "passkey"

    def field(self) -> AssertionField:
        return AssertionField(required=False)

    def user_ids(self) -> QuerySet[Any, Any]:
        return Passkey.objects.values("user_id")

    def take(
        self, *, user: User, response: Any, token_id: str, request: AnyRequest, in_browser: bool
    ) -> APIException | None:
        return passkey_take(
            user=user,
            credential=response,
            token_id=token_id,
            origins=admin_origins(request) if in_browser else allowed_origins(),
            request=request,
        )

    def admin_part(self, *, site: Any, request: HttpRequest, token: str) -> dict[str, Any] | None:
        if admin_origin(request) is None or (token and not self._has_passkey(token)):
            return None
        step = "login_second_factor_passkey" if token else "login_passkey"
        return {
            "template": "myometrics_auth/passkeys/sign_in.html",
            "action": reverse(f"admin:{step}", current_app=site.name),
            "options": reverse(f"admin:{step}_options", current_app=site.name),
            "label": _("Log in with a passkey"),
        }

    def admin_urls(self, site: Any) -> list[Any]:
        # Not above: a site without the admin site does not import it.
        from .admin_login import admin_urls  # noqa: PLC0415

        return admin_urls(site)

    def _has_passkey(self, token: str) -> bool:
        try:
            user_id = parse_user_id(read_token(token, MFA).user_id)
        except (InvalidToken, ValueError):
            return False
        return Passkey.objects.filter(user=user_id).exists()

    def remove(self, *, user: User, since: datetime | None = None) -> None:
        passkeys = Passkey.objects.filter(user=user)
        (passkeys.filter(created_at__gte=since) if since else passkeys).delete()
        PasskeyChallenge.objects.filter(user=user).delete()

    def export(self, user: User) -> dict[str, Any]:
        """Return names and times, without keys; nothing for users without a passkey."""
        passkeys = [PasskeySerializer.read(passkey) for passkey in passkeys_of(user=user)]
        return {"passkeys": passkeys} if passkeys else {}


class PasskeyMethod(ReauthenticationMethod):
    """A passkey that verifies its user, for the options of a sign-in."""

    name = "passkey"

    def field(self) -> AssertionField:
        return AssertionField(required=False)

    def verify(self, *, user: User, value: Any, request: AnyRequest) -> None:
        is_page = not isinstance(request, Request)
        origins = admin_origins(request) if is_page else allowed_origins()
        if not passkey_allow(user=user, credential=value, origins=origins, request=request):
            raise ValidationError({"passkey": [_("The passkey can't be verified. Try again.")]})

    def admin_part(self, *, site: Any, request: HttpRequest) -> dict[str, Any] | None:
        user = current_user(request)
        if admin_origin(request) is None or not passkeys_of(user=user).exists():
            return None
        return {
            "template": "myometrics_auth/passkeys/sign_in.html",
            "action": reverse("admin:login_reauthentication_passkey", current_app=site.name),
            "options": reverse("admin:login_passkey_options", current_app=site.name),
            "label": _("Confirm with a passkey"),
        }


def admin_origins(request: AnyRequest) -> list[str]:
    """Return the origin of a page of the admin site, if passkeys can be used there."""
    origin = admin_origin(http_request(request))
    return [] if origin is None else [origin]


class PasskeySignIn(SignInMethod):
    """Passkeys also sign users in without a password."""

    name = "passkeys"

    def count(self, user: User) -> int:
        return passkeys_of(user=user).count()
