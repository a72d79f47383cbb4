"""A second factor: enrolled, confirmed, disabled, its recovery codes replaced."""

from __future__ import annotations

from typing import Any

import pyotp
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.activities import publish_account_event
from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import invalid_token_error
from myometrics_auth.models import RecoveryCode, Session, TotpDevice
from myometrics_auth.secret_box import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_auth.selectors import has_second_factor
from myometrics_core.errors import Conflict
from myometrics_core.times import utc_now
from myometrics_core.transactions import atomic_write

from .own_secrets import own_code_refused, own_code_take, own_password_is_right
from .second_factor_codes import recovery_codes_create, second_factor_allow, totp_take
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


def totp_enrol(*, user: Any, password: str, request: Any = None) -> tuple[str, str]:
    """Begin enrolment: a new secret and its ``otpauth://`` address, for this once.

    An enrolment never confirmed is replaced. Raises ``ValidationError`` on a password that is
    wrong or refused by the login throttle, ``Conflict`` when a second factor is in use, and
    ``AuthenticationFailed`` when the account was given another password since.
    """
    _require_password(user, password, request)
    return totp_begin(user=user, password=password)


def totp_begin(*, user: Any, password: str) -> tuple[str, str]:
    """As :func:`totp_enrol`, for a user who has given the password just now."""
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


def totp_enrolment(*, user: Any) -> tuple[str, str] | None:
    """Secret and ``otpauth://`` address of the enrolment that ``user`` has begun.

    For the browser in which the password was given. ``None`` where nothing is to be confirmed, or
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


def totp_confirm(*, user: Any, session: Session | None, code: str, request: Any) -> list[str]:
    """Put the enrolled app into use with its first code; ten recovery codes, for this once.

    The session that confirms counts as signed in with a second factor, every other one ends.
    Raises ``ValidationError`` on a code that is wrong or refused by the throttle, ``Conflict``
    with nothing to confirm, ``AuthenticationFailed`` when the session ended since.
    """
    with atomic_write():
        _lock(user, session=session)
        device = TotpDevice.objects.filter(user=user, confirmed_at=None).first()
        if device is None:
            raise Conflict(_("There is no second factor to confirm."), "nothing_to_confirm")
        is_right = totp_take(device=device, code=code)
        if is_right and second_factor_allow(user=user):
            TotpDevice.objects.filter(pk=device.pk).update(confirmed_at=utc_now())
            own = Session.objects.filter(user=user)
            own.but(session).end()
            own.live().update(second_factor=True)
            publish_account_event("second_factor_enabled", user=user, request=request)
            return recovery_codes_create(user=user)
        transaction.set_rollback(True)
    own_code_refused(user=user, is_wrong=not is_right, request=request)
    raise ValidationError({"code": [_("The code is not right.")]})


def totp_disable(*, user: Any, password: str, code: str, request: Any) -> None:
    """Take the second factor out of use; needs the password and a code.

    Raises ``ValidationError`` on either, ``Conflict`` when none is in use, and
    ``AuthenticationFailed`` when the account was given another password since.
    """
    _require_password_and_code(user, password, code, request)
    with atomic_write():
        _lock(user, password)
        second_factor_remove(user=user)
        publish_account_event("second_factor_disabled", user=user, request=request)


def second_factor_remove(*, user: Any) -> None:
    """Delete the app and the recovery codes of ``user``, such as for a user who has lost both."""
    with atomic_write():
        TotpDevice.objects.filter(user=user).delete()
        RecoveryCode.objects.filter(user=user).delete()
        Session.objects.filter(user=user).update(second_factor=False)


def recovery_codes_replace(*, user: Any, password: str, code: str, request: Any) -> list[str]:
    """Ten new recovery codes, for this once; the old ones are void. Raises as for disabling."""
    _require_password_and_code(user, password, code, request)
    with atomic_write():
        _lock(user, password)
        publish_account_event("recovery_codes_replaced", user=user, request=request)
        return recovery_codes_create(user=user)


def _otpauth_url(user: Any, secret: str) -> str:
    totp = pyotp.TOTP(secret)
    return totp.provisioning_uri(name=user.email, issuer_name=auth_settings.MFA_ISSUER)


def _require_password(user: Any, password: str, request: Any) -> None:
    if not own_password_is_right(user=user, password=password, request=request):
        raise ValidationError({"password": [_("The password is not right.")]})


def _require_password_and_code(user: Any, password: str, code: str, request: Any) -> None:
    _require_password(user, password, request)
    if not has_second_factor(user):
        raise Conflict(_("No second factor is in use."), "no_second_factor")
    if not own_code_take(user=user, code=code, request=request):
        raise ValidationError({"code": [_("The code is not right.")]})


def _lock(user: Any, password: str | None = None, session: Session | None = None) -> None:
    """Lock the user's row; refuse a request that a reset or a sign-out has overtaken."""
    current = type(user)._default_manager.select_for_update(no_key=True).filter(pk=user.pk).first()
    if current is None:
        raise invalid_token_error()
    if session is not None:
        is_current = Session.objects.live().filter(pk=session.pk).exists()
    else:
        is_current = is_as_checked(current, user, password)
    if not is_current:
        raise invalid_token_error()
