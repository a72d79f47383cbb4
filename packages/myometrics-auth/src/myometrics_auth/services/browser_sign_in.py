"""Sign-in to the admin site: password, then second factor or enrolment, then a session.

Django treats the user as anonymous until the last step. The Django session stores the state, under
a new key, for ``MFA_TOKEN_LIFETIME``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from rest_framework.exceptions import AuthenticationFailed, ValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import invalid_token_error
from myometrics_auth.models import User
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.tokens import mfa_token
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now

from .browser_sessions import browser_attach, browser_key_store, browser_session
from .second_factor import totp_begin, totp_confirm, totp_enrolment
from .sessions import session_start
from .sign_in import password_accept, sign_in_with_second_factor

__all__ = [
    "Step",
    "browser_enrol",
    "browser_enrolment",
    "browser_needs_code",
    "browser_sign_in",
    "browser_sign_in_with_second_factor",
]

PENDING: Final = "_myometrics_auth_sign_in"
"""Key in the Django session: a sign-in with a pending step."""


class Step(enum.Enum):
    """The step that follows a correct password."""

    NONE = "none"
    SECOND_FACTOR = "second factor"
    ENROLMENT = "enrolment"


def browser_sign_in(
    *, email: str, password: str, request: HttpRequest, is_allowed: Callable[[Any], bool]
) -> Step:
    """Check a password; sign the browser in if no second factor or enrolment is needed.

    Raises ``AuthenticationFailed`` like ``password_accept``.
    """
    user = password_accept(email=email, password=password, request=request, is_allowed=is_allowed)
    if has_second_factor(user):
        _suspend(request, {"mfa_token": mfa_token(user), "backend": user.backend})
        return Step.SECOND_FACTOR
    if user.role in auth_settings.MFA_REQUIRED_ROLES:
        totp_begin(user=user, password=password)
        pending = {
            "user_id": str(user.pk),
            "password": user.get_session_auth_hash(),
            "given_at": utc_now().timestamp(),
            "backend": user.backend,
        }
        _suspend(request, pending)
        return Step.ENROLMENT
    with atomic_write():
        session = session_start(user=user, request=request, password=password, in_browser=True)
        request.session.pop(PENDING, None)
        browser_attach(session=session, backend=user.backend, request=request)
    return Step.NONE


def browser_needs_code(request: HttpRequest) -> bool:
    """Return whether the browser passed the password step and needs the second factor."""
    return "mfa_token" in request.session.get(PENDING, {})


def browser_sign_in_with_second_factor(*, code: str, request: HttpRequest) -> None:
    """Finish the browser's sign-in with a code of the authenticator app or a recovery code.

    Raises ``AuthenticationFailed``: ``token_not_valid`` if the password step must be repeated,
    ``invalid_credentials`` for a wrong code.
    """
    pending = request.session.get(PENDING, {})
    refusal = None
    # One transaction: if attaching the browser fails, the code stays unused.
    with atomic_write():
        try:
            session = sign_in_with_second_factor(
                token=pending.get("mfa_token", ""), code=code, request=request, in_browser=True
            )
            del request.session[PENDING]
            browser_attach(session=session, backend=pending["backend"], request=request)
        except AuthenticationFailed as error:
            refusal = error
    if refusal is not None:  # outside the block, so that the failure is committed
        raise refusal


def browser_enrolment(request: HttpRequest) -> tuple[str, str] | None:
    """Return secret and ``otpauth://`` URL of the second factor that the browser has to confirm.

    ``None`` without one.
    """
    user = _user_of_enrolment(request)
    return None if user is None else totp_enrolment(user=user)


def browser_enrol(*, code: str, request: HttpRequest) -> list[str]:
    """Confirm the second factor with its first code and sign in; return the recovery codes.

    Raises ``ValidationError`` on ``code``, ``Conflict`` without a pending enrolment, and
    ``AuthenticationFailed`` if the password step must be repeated.
    """
    user = _user_of_enrolment(request)
    if user is None:
        raise invalid_token_error()
    refusal = None
    # One transaction: if the sign-in fails, enrolment rolls back with its recovery codes.
    with atomic_write():
        try:
            codes = totp_confirm(user=user, session=None, code=code, request=request)
            session = session_start(user=user, request=request, second_factor=True, in_browser=True)
            pending = request.session.pop(PENDING)
            browser_attach(session=session, backend=pending["backend"], request=request)
        except ValidationError as error:
            refusal = error
    if refusal is not None:  # outside the block, so that the failure is committed
        raise refusal
    return codes


def _suspend(request: HttpRequest, pending: dict[str, Any]) -> None:
    # Rotate the key against session fixation.
    request.session[PENDING] = pending
    request.session.cycle_key()
    previous = browser_session(request)
    if previous is not None:  # must still end with its session row
        browser_key_store(session=previous, request=request)


def _user_of_enrolment(request: HttpRequest) -> User | None:
    pending = request.session.get(PENDING, {})
    age = utc_now().timestamp() - pending.get("given_at", 0)
    if age > auth_settings.MFA_TOKEN_LIFETIME.total_seconds():
        return None
    user = get_user_model().objects.filter(pk=pending["user_id"], is_active=True).first()
    if user is None:
        return None
    is_same = constant_time_compare(user.get_session_auth_hash(), pending["password"])
    return user if is_same else None
