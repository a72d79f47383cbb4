"""The guard against guessing at one account from many addresses.

Below the limit nothing happens. Beyond it, one attempt per pause is judged and every other is
refused like a wrong password, right or not; a refusal neither counts nor prolongs. Addresses
from which the account was signed in before count apart, so a stranger can't lock its owner out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Case, F, Q, Value, When

from myometrics_auth.conf import auth_settings
from myometrics_auth.models import Session, SignInFailures
from myometrics_core.email_addresses import canonical_email
from myometrics_core.pseudonyms import keyed_hashes
from myometrics_core.times import utc_now

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
    """From ``failures`` on, one attempt per ``pause`` is judged; forgotten after ``window``."""

    failures: int
    pause: timedelta
    window: timedelta


@dataclass(frozen=True)
class GuessedAccount:
    """What is guessed at: a factor of an account, real or not, from an address."""

    email: str
    address: str | None = None
    guessed: str = "first factor"

    @property
    def shared_keys(self) -> list[str]:
        """Keys of the row that strangers' attempts count in: the newest, and those before it."""
        return keyed_hashes(f"guesses at {self.guessed}", canonical_email(self.email))

    @property
    def own_keys(self) -> list[str]:
        """Keys of the row that attempts from this address count in, once it is known."""
        parts = (canonical_email(self.email), self.address or "")
        return keyed_hashes(f"guesses at {self.guessed}", *parts)


def password_limit() -> GuessLimit:
    """The host's limit for passwords."""
    return GuessLimit(
        auth_settings.FAILED_SIGN_IN_LIMIT,
        auth_settings.FAILED_SIGN_IN_PAUSE,
        auth_settings.FAILED_SIGN_IN_WINDOW,
    )


def second_factor_limit() -> GuessLimit:
    """The host's limit for second factors."""
    return GuessLimit(
        auth_settings.MFA_FAILURE_LIMIT,
        auth_settings.MFA_FAILURE_PAUSE,
        auth_settings.FAILED_SIGN_IN_WINDOW,
    )


def guess_failed(*, account: GuessedAccount, limit: GuessLimit) -> None:
    """Count a failed attempt, unless turns are being given and this isn't one."""
    keys = _keys(account)
    if _count(keys, limit):
        return
    # A row under an older key goes on until it is swept: two rows would count half each.
    if not SignInFailures.objects.filter(key__in=keys).exists():
        _row, created = SignInFailures.objects.get_or_create(
            key=keys[0], defaults={"failures": 1, "judged_at": utc_now()}
        )
        if created:
            return
    # Another attempt made the row concurrently, or this attempt has no turn: then it is no-op.
    _count(keys, limit)


def guess_was_right(*, account: GuessedAccount, limit: GuessLimit) -> bool:
    """Whether a right answer counts now; if so, its failures are forgotten."""
    keys = [*account.shared_keys, *account.own_keys]
    if not SignInFailures.objects.filter(key__in=keys).exists():
        return True
    keys = _keys(account)
    if not _takes_turn(keys, limit):
        return False
    SignInFailures.objects.filter(key__in=keys).delete()
    return True


def guesses_forget(*, email: str) -> None:
    """Forget what strangers failed at: the account has a new password."""
    SignInFailures.objects.filter(key__in=GuessedAccount(email).shared_keys).delete()


def guesses_erase(*, email: str, addresses: Iterable[str | None]) -> None:
    """Forget all failures at an account: strangers', and those from the ``addresses`` it knew."""
    keys = GuessedAccount(email, guessed=SECOND_FACTOR).shared_keys
    for address in {None, *addresses}:
        account = GuessedAccount(email, address)
        keys += [*account.shared_keys, *account.own_keys]
    SignInFailures.objects.filter(key__in=keys).delete()


def guesses_trust_address(*, email: str, address: str | None) -> None:
    """Have an address count apart from strangers: its user has just read the account's mail."""
    if address is not None:
        keys = GuessedAccount(email, address).own_keys
        SignInFailures.objects.filter(key__in=keys[1:]).delete()
        SignInFailures.objects.update_or_create(
            key=keys[0], defaults={"failures": 0, "judged_at": utc_now()}
        )


def guesses_sweep() -> int:
    """Delete what is forgotten anyway; how many rows."""
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
