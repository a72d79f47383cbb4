"""Events that auth publishes. They contain ids, roles and flags, never names or secrets."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from myometrics_core.events import Event, publish, publish_many
from myometrics_core.http import client_address, user_agent
from myometrics_core.times import utc_now
from myometrics_core.users import account_pseudonym, user_id_json

from .conf import auth_settings
from .models import Invitation, Session, User
from .requests import AnyRequest

RESERVED_ACTIONS = (
    "email_change_undone",
    "email_changed",
    "email_verified",
    "invitation_accepted",
    "invitation_revoked",
    "login_failed",
    "login_succeeded",
    "password_changed",
    "password_reset",
    "recovery_codes_replaced",
    "refresh_token_reused",
    "second_factor_disabled",
    "second_factor_enabled",
    "session_ended",
    "user_created",
    "user_deleted",
    "user_invited",
    "user_updated",
    "user_viewed",
    "users_listed",
)
"""Actions reserved for this package: clients can't post them. ``logout`` is not reserved, because
clients log it too.
"""


def publish_session_events(
    action: str,
    *,
    sessions: Iterable[Session],
    request: AnyRequest,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Publish an event of users about their own sessions, if ``RECORD_SIGN_INS`` is set.

    ``action`` is ``login_succeeded``, ``logout`` or ``refresh_token_reused``.
    """
    if auth_settings.RECORD_SIGN_INS:
        publish_many(
            _event(action, session.user_id, "session", session.pk, request, details)
            for session in sessions
        )


def publish_sessions_ended(
    *, actor: User, sessions: Iterable[Session], request: AnyRequest
) -> None:
    """Publish ``session_ended``, with the session's user, for sessions that ``actor`` ended."""
    events = []
    for session in sessions:
        details = {"user_id": user_id_json(session.user_id)}
        events.append(_event("session_ended", actor.pk, "session", session.pk, request, details))
    publish_many(events)


def publish_failed_sign_in(
    *, email: str, request: AnyRequest, details: Mapping[str, Any] | None = None
) -> None:
    """Publish ``login_failed`` with the pseudonym of the submitted address, known or unknown."""
    if auth_settings.RECORD_SIGN_INS:
        pseudonym = account_pseudonym(email)
        publish(_event("login_failed", None, "user", pseudonym, request, details))


def publish_account_event(action: str, *, user: User, request: AnyRequest | None) -> None:
    """Publish an event of users about their own account, such as ``password_changed``."""
    if auth_settings.RECORD_SIGN_INS:
        publish(_event(action, user.pk, "user", user_id_json(user.pk), request))


def publish_invitation_event(
    action: str, *, invitation: Invitation, actor: User, request: AnyRequest | None
) -> None:
    """Publish ``user_invited``, ``invitation_revoked`` or, by the new user,
    ``invitation_accepted``, with the role.
    """
    details = {"role": invitation.role}
    publish(_event(action, actor.pk, "invitation", invitation.pk, request, details))


def publish_user_change(
    action: str,
    *,
    actor: User | None,
    user_id: Any,
    details: Mapping[str, Any],
    request: AnyRequest | None,
) -> None:
    """Publish ``user_created``, ``user_updated`` or ``user_deleted`` by an administrator."""
    actor_id = None if actor is None else actor.pk
    publish(_event(action, actor_id, "user", user_id_json(user_id), request, details))


def _event(
    action: str,
    actor_id: Any,
    resource_type: str,
    resource_id: Any,
    request: AnyRequest | None,
    details: Mapping[str, Any] | None = None,
) -> Event:
    return Event(
        id=f"auth:{uuid.uuid4()}",
        actor_id=actor_id,
        action=action,
        resource_type=resource_type,
        resource_id=str(resource_id),
        occurred_at=utc_now(),
        details=details or {},
        client_address=client_address(request) if request is not None else None,
        user_agent=user_agent(request) if request is not None else "",
    )
