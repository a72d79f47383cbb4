"""Login throttle per account, against distributed password guessing.

Below the limit every attempt is evaluated. Above it, one attempt per pause is evaluated; the others
are refused like a wrong password, whether or not they are correct, and are not counted. Addresses
with an earlier sign-in are counted separately, so that an attacker can't lock the owner out.

A password or code that a signed-in user enters again is counted and recorded as at sign-in, to
prevent guessing with a stolen access token.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.db.models import Case, F, Q, QuerySet, Value, When

from myometrics_auth.conf import auth_settings
from myometrics_auth.events import publish_account_event
from myometrics_auth.models import Session, SignInFailures, User
from myometrics_auth.requests import AnyRequest, lock_caller
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, keyed_hashes

# Part of the stored hashes: another text would reset every count.
FIRST_FACTOR: Final = "first factor"
SECOND_FACTOR: Final = "second factor"


@dataclass(frozen=True)
class LoginThrottle:
    """Failed attempts at one factor of an account, known or unknown, from a client address."""

    email: str
    address: str | None = None
    factor: str = FIRST_FACTOR

    @property
    def limit(self) -> int:
        """Number of failures from which attempts are throttled."""
        if self.factor == FIRST_FACTOR:
            return auth_settings.FAILED_SIGN_IN_LIMIT
        return auth_settings.MFA_FAILURE_LIMIT

    @property
    def pause(self) -> timedelta:
        """Time between two evaluated attempts when throttled."""
        if self.factor == FIRST_FACTOR:
            return auth_settings.FAILED_SIGN_IN_PAUSE
        return auth_settings.MFA_FAILURE_PAUSE

    def allow_login(self) -> bool:
        """Return whether a correct attempt is accepted; if so, reset its failures."""
        if not _rows([*self.shared_keys, *self.own_keys]).exists():
            return True
        rows, now = _rows(self._keys()), utc_now()
        throttled = rows.filter(
            failures__gte=self.limit, evaluated_at__gt=now - auth_settings.FAILED_SIGN_IN_WINDOW
        )
        if throttled.exists():
            is_due = Q(evaluated_at__lte=now - self.pause)
            if not throttled.filter(is_due).update(evaluated_at=now):
                return False
        rows.delete()
        return True

    def record_failure(self) -> None:
        """Count a failed attempt, unless the throttle refuses to evaluate it."""
        keys = self._keys()
        if self._increment(keys):
            return
        # Keep using a row under an older key: two rows would each count only some of the failures.
        if not _rows(keys).exists():
            _row, created = SignInFailures.objects.get_or_create(
                key=keys[0], defaults={"failures": 1, "evaluated_at": utc_now()}
            )
            if created:
                return
        # Either another attempt created the row concurrently, or this one is throttled (no-op).
        self._increment(keys)

    def reset(self) -> None:
        """Delete failures from unknown addresses."""
        _rows(self.shared_keys).delete()

    def trust_address(self) -> None:
        """Count the address separately: its user has just proved access to the mailbox."""
        if self.address is not None:
            newest, *older = self.own_keys
            _rows(older).delete()
            SignInFailures.objects.update_or_create(
                key=newest, defaults={"failures": 0, "evaluated_at": utc_now()}
            )

    @property
    def shared_keys(self) -> list[str]:
        """Keys of the row for attempts from unknown addresses, newest key first."""
        return keyed_hashes(f"guesses at {self.factor}", canonical_email(self.email))

    @property
    def own_keys(self) -> list[str]:
        """Keys of the row for attempts from this address, if it is known to the account."""
        parts = (canonical_email(self.email), self.address or "")
        return keyed_hashes(f"guesses at {self.factor}", *parts)

    def _keys(self) -> list[str]:
        if self.address is None:
            return self.shared_keys
        signed_in = Session.objects.filter(
            user__email_canonical=canonical_email(self.email), address=self.address
        )
        is_known = signed_in.exists() or _rows(self.own_keys).exists()
        return self.own_keys if is_known else self.shared_keys

    def _increment(self, keys: list[str]) -> bool:
        now = utc_now()
        is_evaluated = Q(failures__lt=self.limit) | Q(evaluated_at__lte=now - self.pause)
        is_expired = Q(evaluated_at__lte=now - auth_settings.FAILED_SIGN_IN_WINDOW)
        failures = Case(When(is_expired, then=Value(1)), default=F("failures") + 1)
        return bool(_rows(keys).filter(is_evaluated).update(failures=failures, evaluated_at=now))


def own_password_check(*, user: User, password: str, request: AnyRequest | None) -> bool:
    """Return whether ``password`` is correct and the login throttle accepts it."""
    throttle = LoginThrottle(user.email, None if request is None else client_address(request))
    is_correct = user.check_password(password)
    if is_correct and throttle.allow_login():
        return True
    refused_attempt_record(user=user, throttle=None if is_correct else throttle, request=request)
    return False


def refused_attempt_record(
    *, user: User, throttle: LoginThrottle | None, request: AnyRequest | None
) -> None:
    """Record a refused password or code; a wrong one is counted in ``throttle``.

    Raises ``CallerDeleted`` if the user was deleted since the request was authenticated.
    """
    with atomic_write():
        lock_caller(user)  # first: a deletion of the user takes its locks in the same order
        if throttle is not None:
            throttle.record_failure()
        publish_account_event("login_failed", user=user, request=request)


def login_throttle_erase(user: User) -> None:
    """Delete all failures of an account, also from the addresses of its sessions."""
    keys = LoginThrottle(user.email, factor=SECOND_FACTOR).shared_keys
    addresses = user.sessions.exclude(address=None).values_list("address", flat=True)
    for address in {None, *addresses}:
        throttle = LoginThrottle(user.email, address)
        keys += [*throttle.shared_keys, *throttle.own_keys]
    _rows(keys).delete()


def login_throttle_sweep() -> int:
    """Delete expired rows; return their number."""
    before = utc_now() - auth_settings.FAILED_SIGN_IN_WINDOW
    return int(SignInFailures.objects.filter(evaluated_at__lt=before).delete()[0])


def _rows(keys: list[str]) -> QuerySet[SignInFailures]:
    return SignInFailures.objects.filter(key__in=keys)
