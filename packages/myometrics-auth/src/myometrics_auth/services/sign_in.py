"""Sign-in: password, then second factor. Specification: "POST /auth/login/"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.signals import user_login_failed
from django.db.models import QuerySet
from django.dispatch import Signal
from rest_framework.exceptions import APIException

from myometrics_auth.errors import (
    EmailNotVerified,
    InvalidCredentials,
    InvalidToken,
    SecondFactorMissing,
)
from myometrics_auth.events import publish_failed_sign_in
from myometrics_auth.models import Session, UsedToken
from myometrics_auth.requests import AnyRequest
from myometrics_auth.second_factor_kinds import registered_second_factors
from myometrics_auth.selectors import must_verify_email
from myometrics_auth.tokens import (
    MFA,
    TokenClaims,
    mfa_token,
    password_fingerprints,
    read_token,
)
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address, http_request
from myometrics_core.times import utc_now
from myometrics_core.users import parse_user_id

from .login_throttle import LoginThrottle
from .second_factor import second_factor_take
from .sessions import session_start

second_step_details = Signal()
"""Sent with ``token_id`` in the second step: a receiver of an opt-in app returns details of the
first one, as a dictionary, for the events of the sign-in.
"""
second_step_done = Signal()
"""Sent with ``token_id`` and ``session`` when a second factor has completed a sign-in, in its
transaction: an opt-in app stores its data about the first step.
"""


@dataclass(frozen=True)
class SignIn:
    """Result of a correct password: a session, or a token for the second step."""

    session: Session | None = None
    mfa_token: str = ""


def sign_in(*, email: str, password: str, request: AnyRequest) -> SignIn:
    """Check a password, like :func:`password_accept`; sign in if no second step is needed."""
    user = password_accept(email=email, password=password, request=request)
    try:
        return SignIn(session=session_start(user=user, request=request, password=password))
    except SecondFactorMissing:
        return SignIn(mfa_token=mfa_token(user))


def password_accept(
    *,
    email: str,
    password: str,
    request: AnyRequest,
    is_allowed: Callable[[Any], bool] = lambda user: True,
) -> Any:
    """Return the user with this address and password, as the authentication backends return it.

    ``is_allowed`` restricts who may sign in. Raises ``AuthenticationFailed``, after the same amount
    of work, for an unknown address, a wrong password, an inactive user, a user who is not allowed,
    and a correct password that the login throttle refuses. After an accepted password raises
    ``EmailNotVerified`` for a user who has to verify the address, before any second factor.
    """
    throttle = LoginThrottle(email, client_address(request))
    user = authenticate(http_request(request), username=email, password=password)
    is_correct = user is not None and is_allowed(user)
    if user is not None and is_correct and throttle.allow_login():
        if must_verify_email(user):
            with atomic_write():
                publish_failed_sign_in(email=email, request=request)
            raise EmailNotVerified
        user.normalize_stored_password(password)
        return user
    with atomic_write():
        if not is_correct:
            throttle.record_failure()
        if user is not None:
            _send_login_failed(email, request)
        publish_failed_sign_in(email=email, request=request)
    raise InvalidCredentials


def sign_in_with_second_factor(
    *,
    token: str,
    request: AnyRequest,
    code: str = "",
    in_browser: bool = False,
    **responses: Any,
) -> Session:
    """Finish a sign-in with a code of the authenticator app or a recovery code.

    ``responses`` instead contains the response of a registered second factor, by its name.
    ``in_browser`` is passed to ``session_start``. Raises ``AuthenticationFailed``:
    ``token_not_valid`` for an invalid, used or expired token, ``invalid_credentials`` for a wrong
    code or response; and other errors of registered factors. A token works once; a wrong code does
    not use it up.
    """
    with atomic_write():
        # Lock the row: serialises requests with the same token.
        users = get_user_model().objects.select_for_update(no_key=True)
        user, claims = user_of_mfa_token(token, users)
        details: dict[str, str] = {}
        found: Any
        for _, found in second_step_details.send(sender=__name__, token_id=claims.token_id):
            details.update(found)
        refusal = _take(user, claims.token_id, code, responses, request, in_browser)
        if refusal is None and must_verify_email(user):
            refusal = EmailNotVerified()  # here, so that the code or response stays used
        if refusal is None:
            expires_at = datetime.fromtimestamp(claims.expires_at, timezone.utc)
            UsedToken.objects.create(token_id=claims.token_id, expires_at=expires_at)
            session = session_start(
                user=user,
                request=request,
                second_factor=True,
                in_browser=in_browser,
                details=details,
            )
            second_step_done.send(sender=__name__, token_id=claims.token_id, session=session)
            return session
        _send_login_failed(user.email, request)
        publish_failed_sign_in(email=user.email, request=request, details=details)
    raise refusal


def user_of_mfa_token(token: str, users: QuerySet[Any]) -> tuple[Any, TokenClaims]:
    """Return the active user among ``users`` whom an unused ``mfa_token`` names, and its claims.

    Raises ``AuthenticationFailed`` (``token_not_valid``).
    """
    claims = read_token(token, MFA)
    try:
        user_id = parse_user_id(claims.user_id)
    except ValueError as error:
        raise InvalidToken from error
    user = users.filter(pk=user_id, is_active=True).first()
    if user is None or claims.fingerprint not in password_fingerprints(user):
        raise InvalidToken
    if UsedToken.objects.filter(pk=claims.token_id).exists():
        raise InvalidToken
    return user, claims


def used_tokens_sweep() -> int:
    """Delete rows of tokens that expired more than a day ago; return their number.

    The margin covers a clock that is set back, which makes expired tokens valid again.
    """
    before = utc_now() - timedelta(days=1)
    return int(UsedToken.objects.filter(expires_at__lt=before).delete()[0])


def _take(
    user: Any,
    token_id: str,
    code: str,
    responses: dict[str, Any],
    request: AnyRequest,
    in_browser: bool,
) -> APIException | None:
    for factor in registered_second_factors():
        if factor.name in responses:
            return factor.take(
                user=user,
                response=responses[factor.name],
                token_id=token_id,
                request=request,
                in_browser=in_browser,
            )
    is_accepted = second_factor_take(user=user, code=code, request=request)
    return None if is_accepted else InvalidCredentials()


def _send_login_failed(email: str, request: AnyRequest) -> None:
    # As ``authenticate`` does after a wrong password.
    credentials = {"username": email}
    user_login_failed.send(sender=__name__, credentials=credentials, request=http_request(request))
