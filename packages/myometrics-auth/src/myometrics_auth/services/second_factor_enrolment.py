"""Enrol, confirm and disable a second factor; replace its recovery codes."""

from __future__ import annotations

import pyotp
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.encryption import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_auth.errors import invalid_token_error
from myometrics_auth.events import publish_account_event
from myometrics_auth.models import RecoveryCode, Session, TotpDevice, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import has_second_factor
from myometrics_core.api import Conflict
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now

from .login_throttle import SECOND_FACTOR, LoginThrottle
from .reauthentication import own_code_take, own_password_check, refused_attempt_record
from .second_factor_codes import recovery_codes_create, totp_take
from .sessions import is_as_checked

__all__ = [
    "recovery_codes_replace",
    "second_factor_remove",
    "totp_begin",
    "totp_confirm",
    "totp_disable",
    "totp_enrol",
    "totp_enrolment",
]


def totp_enrol(*, user: User, password: str, request: AnyRequest | None = None) -> tuple[str, str]:
    """Begin enrolment; return a new secret and its ``otpauth://`` URL, only this once.

    Replaces an unconfirmed enrolment. Raises ``ValidationError`` on a password that is wrong or
    refused by the login throttle, ``Conflict`` if a second factor is in use, and
    ``AuthenticationFailed`` if the password was changed concurrently.
    """
    _require_password(user, password, request)
    return totp_begin(user=user, password=password)


def totp_begin(*, user: User, password: str) -> tuple[str, str]:
    """Like :func:`totp_enrol`, for a user whose password was just checked."""
    secret = pyotp.random_base32()
    with atomic_write():
        _lock(user, password)
        if has_second_factor(user):
            raise Conflict(_("A second factor is in use already."), "second_factor_in_use")
        TotpDevice.objects.update_or_create(
            user=user,
            defaults={"secret": encrypt_secret(secret, owner=user.pk), "last_used_step": 0},
        )
    return secret, _otpauth_url(user, secret)


def totp_enrolment(*, user: User) -> tuple[str, str] | None:
    """Return secret and ``otpauth://`` URL of the user's unconfirmed enrolment.

    For the browser in which the password was entered. ``None`` without a pending enrolment, or if
    no key decrypts the secret.
    """
    device = TotpDevice.objects.filter(user=user, confirmed_at=None).first()
    if device is None:
        return None
    try:
        secret = decrypt_secret(device.secret, owner=user.pk)
    except UnreadableSecret:
        return None
    return secret, _otpauth_url(user, secret)


def totp_confirm(
    *, user: User, session: Session | None, code: str, request: AnyRequest | None
) -> list[str]:
    """Confirm the enrolled app with its first code; return ten recovery codes, only this once.

    Marks the confirming session as signed in with a second factor and ends all others. Raises
    ``ValidationError`` on a code that is wrong or refused by the throttle, ``Conflict`` without a
    pending enrolment, ``AuthenticationFailed`` if the session has ended.
    """
    throttle = LoginThrottle(user.email, factor=SECOND_FACTOR)
    with atomic_write():
        _lock(user, session=session)
        device = TotpDevice.objects.filter(user=user, confirmed_at=None).first()
        if device is None:
            raise Conflict(_("There is no second factor to confirm."), "nothing_to_confirm")
        is_correct = totp_take(device=device, code=code)
        if is_correct and throttle.allow_login():
            TotpDevice.objects.filter(pk=device.pk).update(confirmed_at=utc_now())
            own = Session.objects.filter(user=user)
            own.excluding(session).end()
            own.live().update(second_factor=True)
            publish_account_event("second_factor_enabled", user=user, request=request)
            return recovery_codes_create(user=user)
        transaction.set_rollback(True)
    refused_attempt_record(user=user, throttle=None if is_correct else throttle, request=request)
    raise ValidationError({"code": [_("The code is not right.")]})


def totp_disable(*, user: User, password: str, code: str, request: AnyRequest | None) -> None:
    """Disable the second factor; requires the password and a code.

    Raises ``ValidationError`` on either, ``Conflict`` if none is in use, and
    ``AuthenticationFailed`` if the password was changed concurrently.
    """
    _require_password_and_code(user, password, code, request)
    with atomic_write():
        _lock(user, password)
        second_factor_remove(user=user)
        publish_account_event("second_factor_disabled", user=user, request=request)


def second_factor_remove(*, user: User) -> None:
    """Delete the app and the recovery codes of ``user``, for example if both are lost."""
    with atomic_write():
        TotpDevice.objects.filter(user=user).delete()
        RecoveryCode.objects.filter(user=user).delete()
        Session.objects.filter(user=user).update(second_factor=False)


def recovery_codes_replace(
    *, user: User, password: str, code: str, request: AnyRequest | None
) -> list[str]:
    """Return ten new recovery codes, only this once; the old ones become invalid.

    Raises like :func:`totp_disable`.
    """
    _require_password_and_code(user, password, code, request)
    with atomic_write():
        _lock(user, password)
        publish_account_event("recovery_codes_replaced", user=user, request=request)
        return recovery_codes_create(user=user)


def _otpauth_url(user: User, secret: str) -> str:
    totp = pyotp.TOTP(secret)
    return totp.provisioning_uri(name=user.email, issuer_name=auth_settings.MFA_ISSUER)


def _require_password(user: User, password: str, request: AnyRequest | None) -> None:
    if not own_password_check(user=user, password=password, request=request):
        raise ValidationError({"password": [_("The password is not right.")]})


def _require_password_and_code(
    user: User, password: str, code: str, request: AnyRequest | None
) -> None:
    _require_password(user, password, request)
    if not has_second_factor(user):
        raise Conflict(_("No second factor is in use."), "no_second_factor")
    if not own_code_take(user=user, code=code, request=request):
        raise ValidationError({"code": [_("The code is not right.")]})


def _lock(user: User, password: str | None = None, session: Session | None = None) -> None:
    """Lock the user's row; reject the request after a concurrent reset or sign-out."""
    current = type(user)._default_manager.select_for_update(no_key=True).filter(pk=user.pk).first()
    if current is None:
        raise invalid_token_error()
    if session is not None:
        is_current = Session.objects.live().filter(pk=session.pk).exists()
    else:
        is_current = is_as_checked(current, user, password)
    if not is_current:
        raise invalid_token_error()
