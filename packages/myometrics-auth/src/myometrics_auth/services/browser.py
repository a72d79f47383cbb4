"""Sign-ins of browsers: a Django session that is valid as long as its ``Session``.

The Django session contains the id of the ``Session``, which the admin site looks up on each
request. The ``Session`` contains the key of the Django session: ending it deletes the Django
session, for pages that only check ``request.user``. See the decision record "The admin site signs
in through auth".

A sign-in takes a password, then a second factor or enrolment. Django treats the user as anonymous
until the last step. The Django session stores the state, under a new key, for
``MFA_TOKEN_LIFETIME``.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model, load_backend, login, logout
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from rest_framework.exceptions import (
    APIException,
    AuthenticationFailed,
    PermissionDenied,
    ValidationError,
)
from rest_framework.request import Request

from myometrics_auth.conf import auth_settings
from myometrics_auth.encryption import UnreadableSecret
from myometrics_auth.errors import InvalidToken
from myometrics_auth.events import publish_session_events
from myometrics_auth.models import Session, User
from myometrics_auth.requests import current_user
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.tokens import mfa_token
from myometrics_core.db import atomic_write, read_in_batches
from myometrics_core.http import http_request
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared

from .second_factor import totp_begin, totp_confirm, totp_enrolment
from .sessions import session_start, sessions_end_oldest
from .sign_in import password_accept, sign_in_with_second_factor

SESSION_ID: Final = "_myometrics_auth_session"
"""Key in the Django session: the id of the ``Session``."""
PENDING: Final = "_myometrics_auth_sign_in"
"""Key in the Django session: a sign-in with a pending step."""
MODEL_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"
COOKIE_ENGINE: Final = "django.contrib.sessions.backends.signed_cookies"


class Step(enum.Enum):
    """The step that follows a correct password."""

    NONE = "none"
    SECOND_FACTOR = "second factor"
    ENROLMENT = "enrolment"


def browser_sign_in(
    *, email: str, password: str, request: HttpRequest, is_allowed: Callable[[Any], bool]
) -> Step:
    """Check a password, like :func:`password_accept`; sign in if no other step is needed."""
    user = password_accept(email=email, password=password, request=request, is_allowed=is_allowed)
    if has_second_factor(user):
        browser_suspend(request, {"mfa_token": mfa_token(user), "backend": user.backend})
        return Step.SECOND_FACTOR
    if user.role in auth_settings.MFA_REQUIRED_ROLES:
        totp_begin(user=user, password=password)
        pending = {
            "user_id": str(user.pk),
            "password": user.get_session_auth_hash(),
            "given_at": utc_now().timestamp(),
            "backend": user.backend,
        }
        browser_suspend(request, pending)
        return Step.ENROLMENT
    with atomic_write():
        session = session_start(user=user, request=request, password=password, in_browser=True)
        request.session.pop(PENDING, None)
        browser_attach(session=session, backend=user.backend, request=request)
    return Step.NONE


def browser_needs_code(request: HttpRequest) -> bool:
    """Return whether the browser passed the password step and needs the second factor."""
    return bool(browser_mfa_token(request))


def browser_mfa_token(request: HttpRequest) -> str:
    """Return the ``mfa_token`` of the browser's sign-in; empty if it needs no second factor."""
    return str(request.session.get(PENDING, {}).get("mfa_token", ""))


def browser_sign_in_with_second_factor(*, request: HttpRequest, **responses: Any) -> None:
    """Finish the browser's sign-in, with the ``responses`` of ``sign_in_with_second_factor``.

    Raises ``AuthenticationFailed``: ``token_not_valid`` if the password step must be repeated,
    ``invalid_credentials`` for a wrong code; and other errors of registered factors.
    """
    pending = request.session.get(PENDING, {})
    refusal: APIException | None = None
    # One transaction: if attaching the browser fails, the code stays unused.
    with atomic_write():
        try:
            session = sign_in_with_second_factor(
                token=pending.get("mfa_token", ""), request=request, in_browser=True, **responses
            )
            del request.session[PENDING]
            browser_attach(session=session, backend=pending["backend"], request=request)
        except (AuthenticationFailed, PermissionDenied) as error:
            refusal = error
    if refusal is not None:  # outside the block, so that the failure is committed
        raise refusal


def browser_enrolment(request: HttpRequest) -> tuple[str, str] | None:
    """Return :func:`totp_enrolment` of the user who has to confirm it in this browser."""
    user = _user_of_enrolment(request)
    return None if user is None else totp_enrolment(user=user)


def browser_enrol(*, code: str, request: HttpRequest) -> list[str]:
    """Confirm the second factor with its first code and sign in; return the recovery codes.

    Raises ``ValidationError`` on ``code``, ``Conflict`` without a pending enrolment, and
    ``AuthenticationFailed`` if the password step must be repeated.
    """
    user = _user_of_enrolment(request)
    if user is None:
        raise InvalidToken
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


def browser_session(request: HttpRequest) -> Session | None:
    """Return the browser's live session; ``None`` if it did not sign in through auth."""
    session_id = _session_id(request)
    if session_id is None:
        return None
    return Session.objects.live().filter(pk=session_id, user=request.user.pk).first()


def current_session(request: Request) -> Session | None:
    """Return the session of the request's token, or of its browser if the site accepts those.

    ``None`` if the site itself authenticated the user.
    """
    if isinstance(request.auth, Session):
        return request.auth
    return browser_session(http_request(request))


def browser_session_enforce(request: HttpRequest, *, again: bool = False) -> None:
    """Sign the browser out if its session has ended, or lacks a required second factor.

    One query for the first call in a request, and for each ``again``. Browsers that did not sign in
    through auth are ignored.
    """
    session_id = _session_id(request)
    is_checked = getattr(request, "_myometrics_checked_session", "") == session_id
    if session_id is None or (is_checked and not again):
        return
    session = browser_session(request)
    must_have_factor = current_user(request).role in auth_settings.MFA_REQUIRED_ROLES
    if session is None or (must_have_factor and not session.second_factor):
        logout(request)
        return
    # Same precision as for tokens, which clients refresh about as often.
    now = utc_now()
    if auth_settings.SESSION_IDLE_TIMEOUT is not None:
        session.record_use()
    elif session.refreshed_at <= now - auth_settings.ACCESS_TOKEN_LIFETIME:
        Session.objects.filter(pk=session.pk).update(refreshed_at=now)
    if session.browser_key:
        try:
            stored = session.decrypt_browser_key()
        except UnreadableSecret:
            stored = ""
        if stored != request.session.session_key:
            browser_key_store(session=session, request=request)
    request._myometrics_checked_session = session_id  # type: ignore[attr-defined]


def browser_attach(*, session: Session, backend: str, request: HttpRequest) -> None:
    """Sign the browser in to Django for ``session``, with a new session key.

    Ends the browser's previous session. ``backend`` is the dotted path of the authentication
    backend that accepted the user.
    """
    _end_session(request)
    sessions_end_oldest(keep=session, request=request)  # not before: the browser's may be older
    login(request, session.user, backend=backend)
    request.session[SESSION_ID] = str(session.pk)
    ends_with_browser = request.session.get_expire_at_browser_close()
    if not ends_with_browser and request.session.get_expiry_date() > session.expires_at:
        request.session.set_expiry(session.expires_at)
    # `login` keeps the key if the same user was already signed in.
    request.session.cycle_key()
    if not browser_key_store(session=session, request=request):
        logout(request)  # ended before the key was stored by which to delete the Django session


def browser_backend(user: User) -> str:
    """Return the backend by which Django loads ``user`` in later requests.

    For sign-ins in which no backend has checked a password: some backends of a site load no users,
    or sign out browsers without a header of a proxy.
    """
    backends = list(django_settings.AUTHENTICATION_BACKENDS)
    if MODEL_BACKEND in backends:
        return MODEL_BACKEND
    return next((path for path in backends if load_backend(path).get_user(user.pk)), backends[0])


def browser_key_store(*, session: Session, request: HttpRequest) -> bool:
    """Store the browser's new Django session key; return whether the session is live."""
    key = ""
    if django_settings.SESSION_ENGINE != COOKIE_ENGINE:
        key = session.encrypt_browser_key(str(request.session.session_key))
    return bool(Session.objects.live().filter(pk=session.pk).update(browser_key=key))


def browser_keys_rotate() -> None:
    """Re-encrypt the keys of the Django sessions of open sessions with the newest key.

    One that no key decrypts is stored again at the browser's next request to the admin site.
    """
    stored = Session.objects.filter(ended_at=None, browser_key__gt="").order_by("pk")
    for session in read_in_batches(stored):
        with suppress(UnreadableSecret):
            key = session.encrypt_browser_key(session.decrypt_browser_key())
            # Compare-and-set: do not overwrite the key of a concurrent sign-in.
            same = Session.objects.filter(pk=session.pk, browser_key=session.browser_key)
            same.update(browser_key=key)


def browser_logged_out(
    *, request: HttpRequest | None, user: User | None, session: Session | None = None, **kwargs: Any
) -> None:
    """End the browser's session; receiver of Django's ``user_logged_out``.

    Covers every page that signs the browser out. ``session`` is given if a token's session ended,
    which leaves the browser signed in.
    """
    if session is None and request is not None and user is not None:
        _end_session(request)


def browser_suspend(request: HttpRequest, pending: dict[str, Any]) -> None:
    """Store a sign-in whose next step is pending, under a new key against session fixation."""
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
    if user and constant_time_compare(user.get_session_auth_hash(), pending["password"]):
        return user
    return None


def _session_id(request: HttpRequest) -> str | None:
    user = getattr(request, "user", None)
    if not hasattr(request, "session") or user is None or not user.is_authenticated:
        return None
    return request.session.get(SESSION_ID)


def _end_session(request: HttpRequest) -> None:
    session = browser_session(request)
    if session is None:
        return
    with atomic_write():
        lock_users_shared([session.user_id])
        if Session.objects.live().filter(pk=session.pk).end():
            publish_session_events("logout", sessions=[session], request=request)
