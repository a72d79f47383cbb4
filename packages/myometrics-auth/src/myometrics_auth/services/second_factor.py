"""Second factors: enrol, verify and disable them; replace recovery codes.

pyotp implements RFC 6238. A code is accepted once, even if it is sent twice concurrently.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Final

import pyotp
from django.db import transaction
from django.db.models import Q
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _
from pyotp.utils import strings_equal
from rest_framework.exceptions import ValidationError

from myometrics_auth.account_links import NOTICE_LINK_LIFETIME
from myometrics_auth.conf import auth_settings
from myometrics_auth.encryption import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_auth.errors import InvalidToken
from myometrics_auth.events import publish_account_event
from myometrics_auth.models import RecoveryCode, Session, TotpDevice, User
from myometrics_auth.requests import AnyRequest, lock_caller
from myometrics_auth.second_factor_kinds import registered_second_factors
from myometrics_auth.selectors import has_second_factor, second_factors_in_use
from myometrics_auth.sign_in_methods import remove_sign_in_methods
from myometrics_core.api import Conflict
from myometrics_core.db import atomic_write, read_in_batches
from myometrics_core.times import utc_now
from myometrics_core.users import keyed_hash

from .login_throttle import SECOND_FACTOR, LoginThrottle, own_password_check, refused_attempt_record
from .notices import notice_send
from .sessions import is_as_checked

logger = logging.getLogger("myometrics.auth.second_factors")

STEP_SECONDS = 30
RECOVERY_CODES = 10
RECOVERY_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
RECOVERY_LENGTH = 12

RECENTLY_ADDED: Final = NOTICE_LINK_LIFETIME + timedelta(days=1)
"""Longer than a notice's link is valid: its mail may have been delayed."""


def second_factor_take(*, user: User, code: str, request: AnyRequest | None = None) -> bool:
    """Use up a code of the app or a recovery code; return whether it was accepted.

    Above the limit of failures it is refused like a wrong code, and not used up.
    """
    throttle = LoginThrottle(user.email, factor=SECOND_FACTOR)
    with atomic_write():
        device = second_factors_in_use().filter(user=user).first()
        recovery = RecoveryCode.objects.filter(
            user=user, code_hash__in=_recovery_hashes(user, code)
        )
        is_of_app = device is not None and totp_take(device=device, code=code)
        if is_of_app or recovery.delete()[0]:
            is_allowed = throttle.allow_login()
            if not is_of_app:
                notice_send(user=user, notice="recovery_code_used", request=request)
            transaction.set_rollback(not is_allowed)
            return is_allowed
    throttle.record_failure()
    return False


def own_code_check(*, user: User, code: str, request: AnyRequest | None) -> bool:
    """Use up a code that a signed-in user enters again; return whether it was accepted.

    Records a refused one. Raises ``CallerDeleted`` like ``refused_attempt_record``.
    """
    with atomic_write():
        lock_caller(user)
        is_accepted = second_factor_take(user=user, code=code, request=request)
        if not is_accepted:
            publish_account_event("login_failed", user=user, request=request)
    return is_accepted


def totp_take(*, device: TotpDevice, code: str) -> bool:
    """Use up a code of the app; return whether it was unused and within one time step of now."""
    try:
        totp = pyotp.TOTP(decrypt_secret(device.secret, owner=device.pk))
    except UnreadableSecret:
        logger.exception("The secret of a second factor can't be decrypted")
        return False
    now = int(utc_now().timestamp()) // STEP_SECONDS
    digits = "".join(code.split())
    for step in (now, now - 1, now + 1):
        if strings_equal(totp.generate_otp(step), digits):
            unused = TotpDevice.objects.filter(pk=device.pk, last_used_step__lt=step)
            return bool(unused.update(last_used_step=step))
    return False


def recovery_codes_create(*, user: User) -> list[str]:
    """Create ten recovery codes and delete the previous ones. Only their hashes are stored."""
    texts = [
        get_random_string(RECOVERY_LENGTH, RECOVERY_ALPHABET) for _number in range(RECOVERY_CODES)
    ]
    codes = [f"{text[:4]}-{text[4:8]}-{text[8:]}" for text in texts]
    RecoveryCode.objects.filter(user=user).delete()
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, code_hash=_recovery_hashes(user, code)[0]) for code in codes
    )
    return codes


def totp_secrets_rotate() -> tuple[int, int]:
    """Re-encrypt every secret with the newest key; return the numbers rotated and unreadable."""
    rotated = unreadable = 0
    for device in read_in_batches(TotpDevice.objects.order_by("pk")):
        try:
            secret = decrypt_secret(device.secret, owner=device.pk)
        except UnreadableSecret:
            unreadable += 1
            continue
        # Compare-and-set: do not overwrite a concurrent enrolment.
        same = TotpDevice.objects.filter(pk=device.pk, secret=device.secret)
        rotated += same.update(secret=encrypt_secret(secret, owner=device.pk))
    return rotated, unreadable


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
        if second_factors_in_use().filter(user=user).exists():
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
            publish_account_event("second_factor_enabled", user=user, request=request)
            notice_send(user=user, notice="second_factor_enabled", request=request)
            return second_factor_added(user=user, session=session)
        transaction.set_rollback(True)
    refused_attempt_record(user=user, throttle=None if is_correct else throttle, request=request)
    raise ValidationError({"code": [_("The code is not right.")]})


def totp_disable(*, user: User, password: str, code: str, request: AnyRequest | None) -> None:
    """Disable the authenticator app; requires the password and a code.

    Raises ``ValidationError`` on either, ``Conflict`` if none is in use, and
    ``AuthenticationFailed`` if the password was changed concurrently.
    """
    _require_password(user, password, request)
    if not second_factors_in_use().filter(user=user).exists():
        raise Conflict(_("No second factor is in use."), "no_second_factor")
    _require_code(user, code, request)
    with atomic_write():
        _lock(user, password)
        TotpDevice.objects.filter(user=user).delete()
        second_factor_removed(user=user)
        publish_account_event("second_factor_disabled", user=user, request=request)
        notice_send(user=user, notice="second_factor_disabled", request=request)


def second_factor_remove(*, user: User, since: datetime | None = None) -> None:
    """Delete every second factor and the recovery codes of ``user``, for example if lost.

    With ``since``, only the factors that were set up then or later, and the codes with the last.
    """
    with atomic_write():
        devices = TotpDevice.objects.filter(user=user)
        if since is not None:
            devices = devices.filter(Q(confirmed_at=None) | Q(confirmed_at__gte=since))
        devices.delete()
        for factor in registered_second_factors():
            factor.remove(user=user, since=since)
        second_factor_removed(user=user)


def recently_added_remove(*, user: User, before: datetime) -> None:
    """Delete the passkeys and identities of ``user`` from shortly before ``before``, or later.

    They sign in by themselves.
    """
    since = before - RECENTLY_ADDED
    for factor in registered_second_factors():
        factor.remove(user=user, since=since)
    second_factor_removed(user=user)
    remove_sign_in_methods(user, since=since)


def second_factor_added(*, user: User, session: Session | None) -> list[str]:
    """Start to require a second factor that was just set up; return ten recovery codes.

    Marks ``session``, which set it up, as signed in with a second factor; ends all others.
    """
    own = Session.objects.filter(user=user)
    own.excluding(session).end()
    own.live().update(second_factor=True)
    return recovery_codes_create(user=user)


def second_factor_removed(*, user: User) -> None:
    """If a removed second factor was the last one, delete what depends on it.

    The user's sessions no longer count as signed in with a second factor.
    """
    if has_second_factor(user):
        return
    RecoveryCode.objects.filter(user=user).delete()
    Session.objects.filter(user=user).update(second_factor=False)


def recovery_codes_replace(
    *, user: User, password: str, code: str, request: AnyRequest | None
) -> list[str]:
    """Replace the recovery codes; return them, only this once. Raises like ``totp_disable``."""
    _require_password(user, password, request)
    if not has_second_factor(user):
        raise Conflict(_("No second factor is in use."), "no_second_factor")
    _require_code(user, code, request)
    with atomic_write():
        _lock(user, password)
        publish_account_event("recovery_codes_replaced", user=user, request=request)
        notice_send(user=user, notice="recovery_codes_replaced", request=request)
        return recovery_codes_create(user=user)


def _otpauth_url(user: User, secret: str) -> str:
    totp = pyotp.TOTP(secret)
    return totp.provisioning_uri(name=user.email, issuer_name=auth_settings.MFA_ISSUER)


def _require_password(user: User, password: str, request: AnyRequest | None) -> None:
    if not own_password_check(user=user, password=password, request=request):
        raise ValidationError({"password": [_("The password is not right.")]})


def _require_code(user: User, code: str, request: AnyRequest | None) -> None:
    if not own_code_check(user=user, code=code, request=request):
        raise ValidationError({"code": [_("The code is not right.")]})


def _lock(user: User, password: str | None = None, session: Session | None = None) -> None:
    """Lock the user's row; reject the request after a concurrent reset or sign-out."""
    current = type(user)._default_manager.select_for_update(no_key=True).filter(pk=user.pk).first()
    if session is not None:
        is_current = Session.objects.live().filter(pk=session.pk).exists()
    else:
        is_current = current is not None and is_as_checked(current, user, password)
    if current is None or not is_current:
        raise InvalidToken


def _recovery_hashes(user: User, code: str) -> list[str]:
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return [
        keyed_hash("recovery code", str(user.pk), plain, secret=key)
        for key in auth_settings.encryption_keys
    ]
