"""Passwords and codes that signed-in users enter again, subject to the login throttle.

A wrong one is counted and recorded as at sign-in. Above the limit a correct one is refused too, to
prevent guessing with a stolen access token.
"""

from __future__ import annotations

from typing import Any

from myometrics_auth.activities import publish_account_event
from myometrics_core.api import CallerDeleted
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address
from myometrics_core.users import lock_users_shared

from .guessing import GuessedAccount, guess_failed, guess_was_right, password_limit
from .second_factor_codes import second_factor_failed, second_factor_take

__all__ = ["own_code_refused", "own_code_take", "own_password_is_right"]


def own_password_is_right(*, user: Any, password: str, request: Any) -> bool:
    """Return whether ``password`` is correct and the login throttle accepts it.

    Raises ``CallerDeleted`` if the user was deleted since the request was authenticated.
    """
    address = None if request is None else client_address(request)
    account = GuessedAccount(user.email, address)
    is_right = user.check_password(password)
    if is_right and guess_was_right(account=account, limit=password_limit()):
        return True
    with atomic_write():
        _hold(user)
        if not is_right:
            guess_failed(account=account, limit=password_limit())
        publish_account_event("login_failed", user=user, request=request)
    return False


def own_code_take(*, user: Any, code: str, request: Any) -> bool:
    """Use up a code of the user's second factor, like
    :func:`~myometrics_auth.services.second_factor_codes.second_factor_take`.

    Raises like :func:`own_password_is_right`.
    """
    with atomic_write():
        _hold(user)
        is_right = second_factor_take(user=user, code=code)
        if not is_right:
            publish_account_event("login_failed", user=user, request=request)
    return is_right


def own_code_refused(*, user: Any, is_wrong: bool, request: Any) -> None:
    """Record a refused code that was checked elsewhere; count it if ``is_wrong``.

    Raises like :func:`own_password_is_right`.
    """
    with atomic_write():
        _hold(user)
        if is_wrong:
            second_factor_failed(user=user)
        publish_account_event("login_failed", user=user, request=request)


def _hold(user: Any) -> None:
    # Before counting: a deletion of the user takes its locks in the same order.
    if not lock_users_shared([user.pk]):
        raise CallerDeleted()
