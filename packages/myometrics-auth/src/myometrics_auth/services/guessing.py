"""Login throttle per account, against distributed password guessing.

Below the limit every attempt is evaluated. Above it, one attempt per pause is evaluated; the others
are refused like a wrong password, whether or not they are correct, and are not counted. Addresses
with an earlier sign-in are counted separately, so that an attacker can't lock the owner out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Case, F, Q, Value, When

from myometrics_auth.conf import auth_settings
from myometrics_auth.models import Session, SignInFailures
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, keyed_hashes

__all__ = [
    "SECOND_FACTOR",
    "GuessLimit",
    "GuessedAccount",
    "guess_failed",
    "guess_was_right",
    "guesses_erase",
    "guesses_forget",
    "guesses_sweep",
    "guesses_trust_address",
    "password_limit",
    "second_factor_limit",
]

SECOND_FACTOR = "second factor"


@dataclass(frozen=True)
class GuessLimit:
    """From ``failures`` on, one attempt per ``pause`` is evaluated; reset after ``window``."""

    failures: int
    pause: timedelta
    window: timedelta


@dataclass(frozen=True)
class GuessedAccount:
    """The subject of an attempt: a factor of an account, known or unknown, and a client address."""

    email: str
    address: str | None = None
    guessed: str = "first factor"

    @property
    def shared_keys(self) -> list[str]:
        """Keys of the row for attempts from unknown addresses, newest key first."""
        return keyed_hashes(f"guesses at {self.guessed}", canonical_email(self.email))

    @property
    def own_keys(self) -> list[str]:
        """Keys of the row for attempts from this address, if it is known to the account."""
        parts = (canonical_email(self.email), self.address or "")
        return keyed_hashes(f"guesses at {self.guessed}", *parts)


def password_limit() -> GuessLimit:
    """Return the configured limit for passwords."""
    return GuessLimit(
        auth_settings.FAILED_SIGN_IN_LIMIT,
        auth_settings.FAILED_SIGN_IN_PAUSE,
        auth_settings.FAILED_SIGN_IN_WINDOW,
    )


def second_factor_limit() -> GuessLimit:
    """Return the configured limit for second factors."""
    return GuessLimit(
        auth_settings.MFA_FAILURE_LIMIT,
        auth_settings.MFA_FAILURE_PAUSE,
        auth_settings.FAILED_SIGN_IN_WINDOW,
    )


def guess_failed(*, account: GuessedAccount, limit: GuessLimit) -> None:
    """Count a failed attempt, unless the throttle refuses to evaluate it."""
    keys = _keys(account)
    if _count(keys, limit):
        return
    # Keep using a row under an older key: two rows would each count only some of the failures.
    if not SignInFailures.objects.filter(key__in=keys).exists():
        _row, created = SignInFailures.objects.get_or_create(
            key=keys[0], defaults={"failures": 1, "judged_at": utc_now()}
        )
        if created:
            return
    # Either another attempt created the row concurrently, or this one is throttled (no-op).
    _count(keys, limit)


def guess_was_right(*, account: GuessedAccount, limit: GuessLimit) -> bool:
    """Return whether a correct attempt is accepted; if so, reset its failures."""
    keys = [*account.shared_keys, *account.own_keys]
    if not SignInFailures.objects.filter(key__in=keys).exists():
        return True
    keys = _keys(account)
    if not _takes_turn(keys, limit):
        return False
    SignInFailures.objects.filter(key__in=keys).delete()
    return True


def guesses_forget(*, email: str) -> None:
    """Reset failures from unknown addresses after a password reset."""
    SignInFailures.objects.filter(key__in=GuessedAccount(email).shared_keys).delete()


def guesses_erase(*, email: str, addresses: Iterable[str | None]) -> None:
    """Delete all failures of an account, including those of its known ``addresses``."""
    keys = GuessedAccount(email, guessed=SECOND_FACTOR).shared_keys
    for address in {None, *addresses}:
        account = GuessedAccount(email, address)
        keys += [*account.shared_keys, *account.own_keys]
    SignInFailures.objects.filter(key__in=keys).delete()


def guesses_trust_address(*, email: str, address: str | None) -> None:
    """Count an address separately: its user has just proved access to the account's mailbox."""
    if address is not None:
        keys = GuessedAccount(email, address).own_keys
        SignInFailures.objects.filter(key__in=keys[1:]).delete()
        SignInFailures.objects.update_or_create(
            key=keys[0], defaults={"failures": 0, "judged_at": utc_now()}
        )


def guesses_sweep() -> int:
    """Delete expired rows; return their number."""
    before = utc_now() - auth_settings.FAILED_SIGN_IN_WINDOW
    return int(SignInFailures.objects.filter(judged_at__lt=before).delete()[0])


def _takes_turn(keys: Sequence[str], limit: GuessLimit) -> bool:
    now = utc_now()
    slowed = SignInFailures.objects.filter(
        key__in=keys, failures__gte=limit.failures, judged_at__gt=now - limit.window
    )
    if not slowed.exists():
        return True
    return bool(slowed.filter(judged_at__lte=now - limit.pause).update(judged_at=now))


def _count(keys: Sequence[str], limit: GuessLimit) -> bool:
    now = utc_now()
    is_judged = Q(failures__lt=limit.failures) | Q(judged_at__lte=now - limit.pause)
    is_forgotten = When(judged_at__lte=now - limit.window, then=Value(1))
    return bool(
        SignInFailures.objects.filter(is_judged, key__in=keys).update(
            failures=Case(is_forgotten, default=F("failures") + 1), judged_at=now
        )
    )


def _keys(account: GuessedAccount) -> list[str]:
    return account.own_keys if _is_known(account) else account.shared_keys


def _is_known(account: GuessedAccount) -> bool:
    if account.address is None:
        return False
    signed_in = Session.objects.filter(
        user__email_canonical=canonical_email(account.email), address=account.address
    )
    return signed_in.exists() or SignInFailures.objects.filter(key__in=account.own_keys).exists()
