"""Verification of second factor codes; each code is accepted once.

pyotp implements RFC 6238. A code is accepted once, even if it is sent twice concurrently.
"""

from __future__ import annotations

import logging

import pyotp
from django.db import transaction
from django.utils.crypto import get_random_string
from pyotp.utils import strings_equal

from myometrics_auth.conf import auth_settings
from myometrics_auth.encryption import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_auth.models import RecoveryCode, TotpDevice, User
from myometrics_auth.selectors import second_factors_in_use
from myometrics_core.db import atomic_write, read_in_batches
from myometrics_core.times import utc_now
from myometrics_core.users import keyed_hash

from .login_throttle import SECOND_FACTOR, LoginThrottle

__all__ = ["recovery_codes_create", "second_factor_take", "totp_secrets_rotate", "totp_take"]

logger = logging.getLogger("myometrics.auth.second_factors")

STEP_SECONDS = 30
RECOVERY_CODES = 10
RECOVERY_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
RECOVERY_LENGTH = 12


def second_factor_take(*, user: User, code: str) -> bool:
    """Use up a code of the app or a recovery code; return whether it was accepted.

    Above the limit of failures it is refused like a wrong code, and not used up.
    """
    throttle = LoginThrottle(user.email, factor=SECOND_FACTOR)
    with atomic_write():
        device = second_factors_in_use().filter(user=user).first()
        recovery = RecoveryCode.objects.filter(
            user=user, code_hash__in=_recovery_hashes(user, code)
        )
        if device is not None and (totp_take(device=device, code=code) or recovery.delete()[0]):
            is_allowed = throttle.allow_login()
            transaction.set_rollback(not is_allowed)
            return is_allowed
    throttle.record_failure()
    return False


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
    texts = [get_random_string(RECOVERY_LENGTH, RECOVERY_ALPHABET) for _ in range(RECOVERY_CODES)]
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


def _recovery_hashes(user: User, code: str) -> list[str]:
    plain = "".join(letter for letter in code.upper() if letter.isalnum())
    return [
        keyed_hash("recovery code", str(user.pk), plain, secret=key)
        for key in auth_settings.encryption_keys
    ]
