"""The API for sites: ``from myometrics_audit import audit``, then ``audit.record(…)``.

The caller always passes the actor, so the functions work the same in views, Celery tasks and
commands. ``arecord`` is for async code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db.models import Model
from django.http import HttpRequest
from rest_framework.request import Request

from myometrics_core.events import Origin
from myometrics_core.http import client_address, user_agent
from myometrics_core.users import UserLike

from .conf import audit_settings
from .log.models import AuditLog
from .log.services import ActorDeleted, NewEntry, entries_record, entry_record

__all__ = [
    "Actor",
    "ActorDeleted",
    "NewEntry",
    "Resource",
    "arecord",
    "entry",
    "record",
    "record_many",
]

Actor = UserLike | int | str | UUID | None
"""The acting user: a user, a user's primary key, or ``None`` for anonymous actions."""
AnyRequest = HttpRequest | Request

Resource = Model | tuple[str, Any]
"""The resource of an entry: a model instance, or a type and an id."""


def record(
    *,
    actor: Actor,
    action: str,
    resource: Resource,
    details: Mapping[str, Any] | None = None,
    request: AnyRequest | None = None,
    origin: Origin = "server",
) -> AuditLog:
    """Record that ``actor`` did ``action`` to ``resource``, and publish it.

    ``actor`` is a user, a user's primary key, or ``None`` for anonymous actions.
    ``resource`` is a model instance (stored as ``"clinic.patient"`` and its primary key) or a
    tuple of type and id. ``details`` is a JSON object of at most 64 KiB. The client's address and
    user agent are taken from ``request`` (Django or DRF). ``origin`` is the reporter: ``"server"``
    for this site's code, ``"import"`` for data of another system, ``"client"`` for claims of a
    client that the server has not observed. The entry, its evidence and the writes of receivers
    are one transaction, or part of the caller's transaction.

    Raises ``ValueError`` or ``TypeError`` for values that can't be stored, :class:`ActorDeleted` if
    the actor doesn't exist.
    """
    return entry_record(
        entry(
            actor=actor,
            action=action,
            resource=resource,
            details=details,
            request=request,
            origin=origin,
        )
    )


def record_many(entries: Iterable[NewEntry]) -> list[AuditLog]:
    """Record many entries, made by :func:`entry`, in one transaction: all or none."""
    return entries_record(entries)


async def arecord(**kwargs: Any) -> AuditLog:
    """:func:`record` for async code."""
    return await sync_to_async(record)(**kwargs)


def entry(
    *,
    actor: Actor,
    action: str,
    resource: Resource,
    details: Mapping[str, Any] | None = None,
    request: AnyRequest | None = None,
    origin: Origin = "server",
) -> NewEntry:
    """Build an entry for :func:`record_many`, with the arguments of :func:`record`."""
    if isinstance(resource, Model):
        resource_type, resource_id = resource._meta.label_lower, resource.pk
    else:
        resource_type, resource_id = resource
    max_length = audit_settings.USER_AGENT_MAX_LENGTH
    return NewEntry(
        actor_id=actor_id(actor),
        action=action,
        resource_type=resource_type,
        resource_id=str(resource_id),
        details=details or {},
        client_address=None if request is None else client_address(request),
        user_agent="" if request is None else user_agent(request, max_length),
        origin=origin,
    )


def actor_id(actor: Actor) -> Any:
    """Return the primary key of an actor."""
    return getattr(actor, "pk", actor)
