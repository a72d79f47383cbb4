"""Sign-in: password, then the second factor if the user has one.

Specification: "POST /auth/login/".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.signals import user_login_failed

from myometrics_auth.activities import publish_failed_sign_in
from myometrics_auth.errors import invalid_credentials, invalid_token_error
from myometrics_auth.models import Session
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.tokens import MFA, InvalidToken, TokenClaims, mfa_token, read_token
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address, http_request
from myometrics_core.users import keyed_hashes, parse_user_id

from .guessing import GuessedAccount, guess_failed, guess_was_right, password_limit
from .second_factor_codes import second_factor_take
from .sessions import session_start
from .used_tokens import token_is_used, token_use

__all__ = [
    "SignIn",
    "password_accept",
    "second_factor_token",
    "sign_in",
    "sign_in_with_second_factor",
]


@dataclass(frozen=True)
class SignIn:
    """Result of a correct password: a session, or a token for the second step."""

    session: Session | None = None
    mfa_token: str = ""


def sign_in(*, email: str, password: str, request: Any) -> SignIn:
    """Check a password against the site's authentication backends and sign in.

    Raises like :func:`password_accept`.
    """
    user = password_accept(email=email, password=password, request=request)
    if has_second_factor(user):
        return SignIn(mfa_token=second_factor_token(user))
    return SignIn(session=session_start(user=user, request=request, password=password))


def password_accept(
    *,
    email: str,
    password: str,
    request: Any,
    is_allowed: Callable[[Any], bool] | None = None,
) -> Any:
    """Return the user with this address and password, as the authentication backends return it.

    ``is_allowed`` restricts who may sign in. Raises ``AuthenticationFailed``, after the same amount
    of work, for an unknown address, a wrong password, an inactive user, a user who is not allowed,
    and a correct password that the login throttle refuses.
    """
    account = GuessedAccount(email, client_address(request))
    user = authenticate(http_request(request), username=email, password=password)
    if user is None:
        with atomic_write():
            guess_failed(account=account, limit=password_limit())
            publish_failed_sign_in(email=email, request=request)
        raise invalid_credentials()
    if is_allowed is not None and not is_allowed(user):
        with atomic_write():
            guess_failed(account=account, limit=password_limit())
            _publish_failure(email, request)
        raise invalid_credentials()
    if not guess_was_right(account=account, limit=password_limit()):
        _publish_failure(email, request)
        raise invalid_credentials()
    return user


def second_factor_token(user: Any) -> str:
    """Return the token for the second step after the password was checked."""
    return mfa_token(user, _fingerprints(user)[0])


def sign_in_with_second_factor(
    *, token: str, code: str, request: Any, in_browser: bool = False
) -> Session:
    """Finish a sign-in with a code of the authenticator app or a recovery code.

    ``in_browser`` is passed to ``session_start``. Raises ``AuthenticationFailed``:
    ``token_not_valid`` for an invalid, used or expired token, ``invalid_credentials`` for a wrong
    code. A token works once; a wrong code does not use it up.
    """
    try:
        claims = read_token(token, MFA)
        user_id = parse_user_id(claims.user_id)
    except (InvalidToken, ValueError) as error:
        raise invalid_token_error() from error
    with atomic_write():
        user = _user_locked(user_id, claims)
        if second_factor_take(user=user, code=code):
            token_use(claims)
            return session_start(
                user=user, request=request, second_factor=True, in_browser=in_browser
            )
        _publish_failure(user.email, request)
    raise invalid_credentials()


def _user_locked(user_id: Any, claims: TokenClaims) -> Any:
    # Lock the row: serialises requests with the same token.
    people = get_user_model().objects.select_for_update(no_key=True)
    user = people.filter(pk=user_id, is_active=True).first()
    if user is None or token_is_used(claims):
        raise invalid_token_error()
    if claims.fingerprint not in _fingerprints(user):
        raise invalid_token_error()
    return user


def _publish_failure(email: str, request: Any) -> None:
    with atomic_write():
        credentials = {"username": email}
        user_login_failed.send(
            sender=__name__, credentials=credentials, request=http_request(request)
        )
        publish_failed_sign_in(email=email, request=request)


def _fingerprints(user: Any) -> list[str]:
    return [made[:32] for made in keyed_hashes("password", user.password)]
