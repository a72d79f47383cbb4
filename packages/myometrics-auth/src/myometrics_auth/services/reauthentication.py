"""Recent sign-in for sensitive operations (``REAUTHENTICATE_FOR``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.serializers import Field

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import Session, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.serializers import MAX_CODE_LENGTH, PasswordField
from myometrics_core.api import StrictCharField
from myometrics_core.times import utc_now

from .login_throttle import own_password_check
from .second_factor import own_code_check

RECENT: Final = timedelta(minutes=10)


class ReauthenticationRequired(PermissionDenied):
    """403: the operation needs a recent sign-in."""

    default_detail = _("Confirm your identity again first.")
    default_code = "reauthentication_required"


class ReauthenticationMethod(ABC):
    """A way to confirm one's identity at ``POST auth/reauthenticate/``.

    ``name`` is the key in the body. Opt-in apps register theirs in ``ready()`` with
    :func:`register_reauthentication_method`.
    """

    name: ClassVar[str]

    @abstractmethod
    def field(self) -> Field[Any, Any, Any, Any]:
        """Return a new serializer field for the value in the body; it is not required."""

    @abstractmethod
    def verify(self, *, user: User, value: Any, request: AnyRequest) -> None:
        """Raise ``ValidationError`` on ``name`` unless ``value`` proves the identity of ``user``.

        Counts and records a wrong value as at sign-in, in a transaction of its own.
        """

    def admin_part(self, *, site: Any, request: HttpRequest) -> dict[str, Any] | None:
        """Return the method's part of the admin site's page for it, or ``None``.

        ``template`` names the template to include, which gets the rest as ``part``.
        """
        return None


class PasswordMethod(ReauthenticationMethod):
    """The password."""

    name = "password"

    def field(self) -> Field[Any, Any, Any, Any]:
        return PasswordField(required=False)

    def verify(self, *, user: User, value: Any, request: AnyRequest) -> None:
        if not own_password_check(user=user, password=value, request=request):
            raise ValidationError({"password": [_("The password is not right.")]})


class CodeMethod(ReauthenticationMethod):
    """A code of the authenticator app or a recovery code."""

    name = "code"

    def field(self) -> Field[Any, Any, Any, Any]:
        return StrictCharField(required=False, max_length=MAX_CODE_LENGTH)

    def verify(self, *, user: User, value: Any, request: AnyRequest) -> None:
        if not own_code_check(user=user, code=value, request=request):
            raise ValidationError({"code": [_("The code is not right.")]})


_methods: dict[str, ReauthenticationMethod] = {}


def register_reauthentication_method(method: ReauthenticationMethod) -> None:
    """Accept ``method`` at ``POST auth/reauthenticate/``."""
    _methods[method.name] = method


def reauthentication_methods() -> Mapping[str, ReauthenticationMethod]:
    """Return the registered methods by name."""
    return _methods


def recent_sign_in_require(*, session: Session | None, operation: str) -> None:
    """Raise ``PermissionDenied`` (``reauthentication_required``) unless the sign-in is recent.

    ``operation`` is one of ``delete_account``, ``change_email``, ``disable_mfa`` and ``export``;
    those not in ``REAUTHENTICATE_FOR`` are allowed. ``session`` is ``None`` if the site
    authenticated the user: when that was is unknown, so it is not recent.
    """
    if operation in auth_settings.REAUTHENTICATE_FOR and not is_recent_sign_in(session):
        raise ReauthenticationRequired


def session_reauthenticate(
    *, user: User, session: Session | None, proof: Mapping[str, Any], request: AnyRequest
) -> None:
    """Mark ``session`` as reauthenticated by ``proof``: one method's name and its value.

    Any one method is enough, also for users with a second factor: the session is the other proof.
    Raises ``ValidationError`` if ``proof`` is wrong or refused by the login throttle,
    ``ReauthenticationRequired`` without a session, ``AuthenticationFailed`` if it ended
    concurrently.
    """
    if session is None:
        raise ReauthenticationRequired(_("Sign in again: this sign-in can't be confirmed."))
    if len(proof) != 1:
        names = ", ".join(_methods)
        raise ValidationError(_("Send exactly one of these: %(names)s.") % {"names": names})
    ((name, value),) = proof.items()
    _methods[name].verify(user=user, value=value, request=request)
    own = Session.objects.live().filter(pk=session.pk, user=user)
    if not own.update(reauthenticated_at=utc_now()):
        raise InvalidToken


def is_recent_sign_in(session: Session | None) -> bool:
    """Return whether the user of ``session`` proved the identity within the last ten minutes.

    At the start of the session, unless an identity provider says when, or by
    ``auth/reauthenticate/``.
    """
    if session is None:
        return False
    return (session.reauthenticated_at or session.created_at) > utc_now() - RECENT


register_reauthentication_method(PasswordMethod())
register_reauthentication_method(CodeMethod())
