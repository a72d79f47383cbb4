"""Passwords and codes that signed-in users enter again, subject to the login throttle.

A wrong one is counted and recorded as at sign-in. Above the limit a correct one is refused too, to
prevent guessing with a stolen access token. All functions raise ``AuthenticationFailed`` if the
user was deleted since the request was authenticated.
"""

from __future__ import annotations

from myometrics_auth.events import publish_account_event
from myometrics_auth.models import User
from myometrics_auth.requests import AnyRequest
from myometrics_core.api import CallerDeleted
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address
from myometrics_core.users import lock_users_shared

from .login_throttle import LoginThrottle

__all__ = ["caller_lock", "own_password_check", "refused_attempt_record"]


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
    """Record a refused password or code; a wrong one is counted in ``throttle``."""
    with atomic_write():
        caller_lock(user)
        if throttle is not None:
            throttle.record_failure()
        publish_account_event("login_failed", user=user, request=request)


def caller_lock(user: User) -> None:
    """Lock the row of the caller; raise ``CallerDeleted`` if it is gone.

    Before counting: a deletion of the user takes its locks in the same order.
    """
    if not lock_users_shared([user.pk]):
        raise CallerDeleted()
