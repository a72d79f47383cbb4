"""Start, refresh, end and clean up sessions."""

from __future__ import annotations

import uuid

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound, ValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import InvalidCredentials, InvalidToken
from myometrics_auth.events import publish_session_events, publish_sessions_ended
from myometrics_auth.models import Session, SessionQuerySet, User
from myometrics_auth.requests import AnyRequest, lock_caller
from myometrics_auth.tokens import REFRESH, access_token, read_token
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address, http_request, user_agent
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared

__all__ = [
    "is_as_checked",
    "session_end",
    "session_end_by_refresh_token",
    "session_refresh",
    "session_start",
    "sessions_end",
    "sessions_end_others",
    "sessions_sweep",
]

SWEEP_BATCH = 1000


def session_start(
    *,
    user: User,
    request: AnyRequest,
    password: str | None = None,
    second_factor: bool = False,
    in_browser: bool = False,
) -> Session:
    """Sign ``user`` in: create a session for the requesting device.

    ``user`` is the instance for which ``password`` was checked. With ``in_browser`` the caller
    passes the session to ``browser_attach``, which sends Django's ``user_logged_in``. Raises
    ``AuthenticationFailed`` if the account was deleted, deactivated or given another password
    concurrently.
    """
    with atomic_write():
        users = get_user_model().objects.select_for_update(no_key=True)
        current = users.filter(pk=user.pk).first()
        if current is None or not is_as_checked(current, user, password):
            raise InvalidCredentials
        session = Session.objects.create(
            user=current,
            expires_at=utc_now() + auth_settings.REFRESH_TOKEN_LIFETIME,
            address=client_address(request),
            user_agent=user_agent(request, max_length=512),
            second_factor=second_factor,
        )
        if not in_browser:
            user_logged_in.send(sender=type(current), request=http_request(request), user=current)
        publish_session_events("login_succeeded", sessions=[session], request=request)
    return session


def is_as_checked(current: User, user: User, password: str | None) -> bool:
    """Return whether ``current`` is active and has the same password as ``user``.

    Compares hashes first; a different hash may be a concurrent upgrade of the same password.
    """
    is_same = current.password == user.password
    return current.is_active and (is_same or bool(password and current.check_password(password)))


def session_refresh(*, token: str) -> str:
    """Return a new access token for a refresh token; raise ``AuthenticationFailed``."""
    claims = read_token(token, REFRESH)
    live = Session.objects.live().filter(pk=str(claims.session_id), user__is_active=True)
    session = live.first()
    if session is None or str(session.user_id) != claims.user_id:
        raise InvalidToken
    if not Session.objects.live().filter(pk=session.pk).update(refreshed_at=utc_now()):
        raise InvalidToken
    return access_token(session)


def session_end_by_refresh_token(*, user: User, token: str, request: AnyRequest) -> None:
    """Sign out: end the session of the refresh token.

    Raises ``ValidationError`` on ``refresh`` if it is not a refresh token of a live session of
    ``user``.
    """
    try:
        claims = read_token(token, REFRESH)
        session_end(user=user, session_id=str(claims.session_id), request=request)
    except (InvalidToken, NotFound) as error:
        raise ValidationError({"refresh": [_("The token is invalid or has expired.")]}) from error


def session_end(*, user: User, session_id: uuid.UUID | str, request: AnyRequest) -> None:
    """End one live session of ``user``; raise ``NotFound`` if it does not exist."""
    with atomic_write():
        lock_caller(user)
        own = Session.objects.live().filter(pk=session_id, user=user)
        session = own.first()
        if session is None or not own.end():
            raise NotFound(_("There is no such session."))
        user_logged_out.send(
            sender=type(user), request=http_request(request), user=user, session=session
        )
        publish_session_events("logout", sessions=[session], request=request)


def sessions_end_others(*, user: User, keep: Session | None, request: AnyRequest) -> None:
    """End every live session of ``user`` except ``keep``."""
    with atomic_write():
        lock_caller(user)
        others = _end_live(Session.objects.filter(user=user).excluding(keep))
        publish_session_events("logout", sessions=others, request=request)


def sessions_end(*, actor: User, sessions: SessionQuerySet, request: AnyRequest) -> int:
    """End the live sessions among ``sessions`` as an administrator; return their number."""
    with atomic_write():
        owners = lock_users_shared(sessions.live().values_list("user_id", flat=True))
        ended = _end_live(sessions.filter(user_id__in=owners))
        publish_sessions_ended(actor=actor, sessions=ended, request=request)
    return len(ended)


def sessions_sweep(*, batch: int = SWEEP_BATCH) -> int:
    """Delete sessions past the retention, in batches; return their number."""
    before = utc_now() - auth_settings.SESSION_RETENTION
    is_over = Q(expires_at__lt=before) | Q(ended_at__lt=before)
    swept = 0
    while keys := list(Session.objects.filter(is_over).values_list("pk", flat=True)[:batch]):
        swept += Session.objects.filter(pk__in=keys).delete()[0]
    return swept


def _end_live(sessions: SessionQuerySet) -> list[Session]:
    live = list(sessions.live())
    Session.objects.filter(pk__in=[session.pk for session in live]).end()
    return live
