"""Start, refresh, end and clean up sessions."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound, ValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import (
    EmailNotVerified,
    InvalidCredentials,
    InvalidToken,
    SecondFactorMissing,
)
from myometrics_auth.events import (
    publish_session_events,
    publish_sessions_ended,
)
from myometrics_auth.models import Session, SessionQuerySet, User
from myometrics_auth.requests import AnyRequest, lock_caller
from myometrics_auth.selectors import has_second_factor, must_verify_email
from myometrics_auth.tokens import REFRESH, access_token, read_token, rotated_refresh_token
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address, http_request, user_agent
from myometrics_core.times import utc_now
from myometrics_core.users import lock_users_shared

from .devices import device_record
from .notices import notice_send

SWEEP_BATCH = 1000
RETRY_INTERVAL: Final = timedelta(seconds=10)
"""How long a replaced refresh token still returns its successor, for clients that lost it."""


@dataclass(frozen=True)
class RefreshedTokens:
    """The tokens of a refresh; ``refresh`` is empty if the refresh token stays unchanged."""

    access: str
    refresh: str = ""


def session_start(
    *,
    user: User,
    request: AnyRequest,
    password: str | None = None,
    second_factor: bool = False,
    in_browser: bool = False,
    expires_at: datetime | None = None,
    authenticated_at: datetime | None = None,
    details: Mapping[str, Any] | None = None,
) -> Session:
    """Sign ``user`` in: create a session for the requesting device.

    ``user`` is the instance for which ``password`` was checked. With ``in_browser`` the caller
    passes the session to ``browser_attach`` in the same transaction, which sends Django's
    ``user_logged_in`` and ends sessions beyond ``SESSIONS_PER_USER``. The session lasts until
    ``expires_at``, by default ``REFRESH_TOKEN_LIFETIME``; ``authenticated_at`` is when the user
    proved the identity, by default now; ``details`` are those of the event.
    Raises ``AuthenticationFailed`` if the account was deleted, deactivated or given another
    password concurrently, ``SecondFactorMissing`` if the user has a second factor and
    ``second_factor`` is not set, and ``EmailNotVerified`` if the address has to be verified first.
    """
    with atomic_write():
        users = get_user_model().objects.select_for_update(no_key=True)
        current = users.filter(pk=user.pk).first()
        if current is None or not is_as_checked(current, user, password):
            raise InvalidCredentials
        _require_steps(current, second_factor=second_factor)
        device_record(user=current, request=request)
        session = Session.objects.create(
            user=current,
            expires_at=expires_at or utc_now() + auth_settings.REFRESH_TOKEN_LIFETIME,
            address=client_address(request),
            user_agent=user_agent(request, max_length=512),
            second_factor=second_factor,
            reauthenticated_at=authenticated_at,
        )
        if not in_browser:
            user_logged_in.send(sender=type(current), request=http_request(request), user=current)
        publish_session_events(
            "login_succeeded", sessions=[session], request=request, details=details
        )
        if not in_browser:
            sessions_end_oldest(keep=session, request=request)
    return session


def _require_steps(user: User, *, second_factor: bool) -> None:
    # Under the lock of the user: another device may just have set a second factor up.
    if not second_factor and has_second_factor(user):
        raise SecondFactorMissing
    if must_verify_email(user):
        raise EmailNotVerified


def sessions_end_oldest(*, keep: Session, request: AnyRequest) -> None:
    """End the oldest sessions of the user of ``keep`` beyond ``SESSIONS_PER_USER``.

    The caller has locked the user's row.
    """
    limit = auth_settings.SESSIONS_PER_USER
    if limit is None:
        return
    others = Session.objects.live().filter(user=keep.user).excluding(keep)
    if excess := list(others.order_by("-created_at", "-pk")[limit - 1 :]):
        Session.objects.filter(pk__in=[session.pk for session in excess]).end()
        publish_sessions_ended(actor=keep.user, sessions=excess, request=request)


def is_as_checked(current: User, user: User, password: str | None) -> bool:
    """Return whether ``current`` is active and has the same password as ``user``.

    Compares hashes first; a different hash may be a concurrent upgrade of the same password.
    """
    is_same = current.password == user.password
    return current.is_active and (is_same or bool(password and current.check_password(password)))


def is_over(session: Session | None) -> bool:
    """Return whether the caller's ``session`` has ended since the request was authenticated.

    ``None``, a caller whom the site authenticated, has no session to end.
    """
    return session is not None and not Session.objects.live().filter(pk=session.pk).exists()


def session_refresh(*, token: str, request: AnyRequest) -> RefreshedTokens:
    """Return a new access token for a refresh token; raise ``AuthenticationFailed``.

    With ``ROTATE_REFRESH_TOKENS`` it also returns a new refresh token, which replaces ``token``.
    The replaced one returns the same refresh token for ten seconds; after that, reuse ends the
    session. Sessions whose token was replaced stay under these rules if the setting is off again.
    """
    claims = read_token(token, REFRESH)
    live = Session.objects.live().filter(pk=str(claims.session_id), user__is_active=True)
    session = live.first()
    if session is None or str(session.user_id) != claims.user_id:
        raise InvalidToken
    if session.refresh_token_id in (None, claims.token_id):
        current = session.refresh_token_id
        session.refreshed_at = utc_now()
        written = {"refreshed_at": session.refreshed_at}
        if auth_settings.ROTATE_REFRESH_TOKENS:
            session.rotated_at = session.refreshed_at
            session.refresh_token_id = uuid.uuid4().hex
            written |= {
                "rotated_at": session.rotated_at,
                "refresh_token_id": session.refresh_token_id,
                "previous_refresh_token_id": claims.token_id,
            }
        # Compare-and-set: of concurrent refreshes, one replaces the token.
        unchanged = Session.objects.live().filter(pk=session.pk, refresh_token_id=current)
        if unchanged.update(**written):
            is_rotated = session.refresh_token_id != current
            refresh = rotated_refresh_token(session) if is_rotated else ""
            return RefreshedTokens(access_token(session), refresh)
        session = live.first()
        if session is None:
            raise InvalidToken
    if not _is_retry(session, claims.token_id):
        _end_after_reuse(session, request)
        raise InvalidToken
    return RefreshedTokens(access_token(session), rotated_refresh_token(session))


def _is_retry(session: Session, token_id: str) -> bool:
    if session.rotated_at is None or token_id != session.previous_refresh_token_id:
        return False
    return session.rotated_at > utc_now() - RETRY_INTERVAL


def _end_after_reuse(session: Session, request: AnyRequest) -> None:
    """End a session whose replaced refresh token was sent: the token may be stolen."""
    with atomic_write():
        if not lock_users_shared([session.user_id]):
            return
        if not Session.objects.live().filter(pk=session.pk).end():
            return
        publish_session_events("refresh_token_reused", sessions=[session], request=request)
        notice_send(user=session.user, notice="refresh_token_reused", request=request)


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
    """Delete sessions past the retention, in batches; return their number.

    Ends idle sessions, which also deletes the Django sessions of browsers.
    """
    while keys := list(Session.objects.idle().values_list("pk", flat=True)[:batch]):
        for key in keys:  # one by one: no locks on several rows, and not if used concurrently
            Session.objects.idle().filter(pk=key).end()
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
