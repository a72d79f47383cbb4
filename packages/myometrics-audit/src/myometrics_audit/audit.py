"""The API for sites: ``from myometrics_audit import audit``, then ``audit.record(…)``.

The caller passes the actor, or opens a :func:`recording` with it, so the functions work the same in
views, Celery tasks and commands. ``arecord`` is for async code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any, Final, Literal
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db.models import Model
from django.http import HttpRequest
from rest_framework.request import Request

from myometrics_core.events import Origin
from myometrics_core.http import client_address, user_agent
from myometrics_core.users import UserLike

from .conf import audit_settings
from .log.models import MAX_LENGTHS, AuditLog
from .log.recordings import Recording, current_recording, entries_record_durably
from .log.services import ActorDeleted, NewEntry, entries_record, entry_record

__all__ = [
    "Actor",
    "ActorDeleted",
    "NewEntry",
    "Recording",
    "Resource",
    "access_entry",
    "arecord",
    "entry",
    "record",
    "record_access",
    "record_many",
    "recording",
]


class Unset(Enum):
    """The type of :data:`FROM_RECORDING`."""

    FROM_RECORDING = "from the recording"


FROM_RECORDING: Final = Unset.FROM_RECORDING
"""The default actor: that of the current :func:`recording`."""
Actor = UserLike | int | str | UUID | None
"""The acting user: a user, a user's primary key, or ``None`` for anonymous actions."""
AnyRequest = HttpRequest | Request

Resource = Model | tuple[str, Any]
"""The resource of an entry: a model instance, or a type and an id."""


ActorOrUnset = Actor | Literal[Unset.FROM_RECORDING]


def record(
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    action: str,
    resource: Resource,
    details: Mapping[str, Any] | None = None,
    request: AnyRequest | None = None,
    origin: Origin = "server",
    data_subject: str = "",
    purpose: str = "",
    legal_basis: str = "",
    durable: bool = False,
) -> AuditLog:
    """Record that ``actor`` did ``action`` to ``resource``, and publish it.

    ``actor`` is a user, a user's primary key, or ``None`` for anonymous actions. Without ``actor``,
    ``request``, ``purpose`` or ``legal_basis``, the value is that of the current :func:`recording`.
    ``resource`` is a model instance (stored as ``"clinic.patient"`` and its primary key) or a
    tuple of type and id. ``details`` is a JSON object of at most 64 KiB. The client's address and
    user agent are taken from ``request`` (Django or DRF). ``origin`` is the reporter: ``"server"``
    for this site's code, ``"import"`` for data of another system, ``"client"`` for claims of a
    client that the server has not observed. ``data_subject`` is your id of the patient or other
    person that the resource is about; ``purpose`` and ``legal_basis`` say why it was processed
    (each at most 100 characters). The entry, its evidence and the writes of receivers
    are one transaction, or part of the caller's transaction. A ``durable`` entry survives the
    rollback of the caller's transaction, all of which must be inside a :func:`recording`.

    Raises ``ValueError`` or ``TypeError`` for values that can't be stored, :class:`ActorDeleted` if
    the actor doesn't exist, ``RuntimeError`` for a durable entry in a transaction that is in no
    recording.
    """
    new = entry(
        actor=actor,
        action=action,
        resource=resource,
        details=details,
        request=request,
        origin=origin,
        data_subject=data_subject,
        purpose=purpose,
        legal_basis=legal_basis,
    )
    return entries_record_durably([new])[0] if durable else entry_record(new)


def record_many(entries: Iterable[NewEntry], *, durable: bool = False) -> list[AuditLog]:
    """Record many entries, made by :func:`entry`, in one transaction: all or none."""
    return entries_record_durably(list(entries)) if durable else entries_record(entries)


async def arecord(**kwargs: Any) -> AuditLog:
    """:func:`record` for async code."""
    return await sync_to_async(record)(**kwargs)


def record_access(
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    data_subject: str,
    resource: Resource,
    purpose: str = "",
    legal_basis: str = "",
    details: Mapping[str, Any] | None = None,
    request: AnyRequest | None = None,
    action: str = "",
    durable: bool = False,
) -> AuditLog:
    """Record that ``actor`` saw ``resource``, which is about ``data_subject``.

    The action is ``<model>_viewed`` by default. The other arguments and the errors are those of
    :func:`record`. For many at once: ``record_many(access_entry(…) for …)``.
    """
    new = access_entry(
        actor=actor,
        data_subject=data_subject,
        resource=resource,
        purpose=purpose,
        legal_basis=legal_basis,
        details=details,
        request=request,
        action=action,
    )
    return record_many([new], durable=durable)[0]


def access_entry(*, data_subject: str, action: str = "", **arguments: Any) -> NewEntry:
    """Build an entry for :func:`record_many`, with the arguments of :func:`record_access`."""
    resource = arguments["resource"]
    label = resource._meta.label_lower if isinstance(resource, Model) else str(resource[0])
    action = action or action_name(label.rpartition(".")[2], "viewed")
    return entry(action=action, data_subject=str(data_subject), **arguments)


def recording(
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    purpose: str = "",
    legal_basis: str = "",
    request: AnyRequest | None = None,
) -> Recording:
    """Return a context manager whose block records with these values by default.

    ``with audit.recording(actor=user, purpose="TREAT"):`` in a command, task or script saves
    repeating them at each call; in async code use ``async with``. Values that are not given are
    those of the enclosing recording. Threads that the block starts don't inherit it. Put it around
    a transaction to record ``durable`` entries in it: at the end of the block, those that a
    rollback has removed are written again.
    """
    facts: dict[str, Any] = {"purpose": purpose, "legal_basis": legal_basis}
    if request is not None:
        facts |= _client(request)
    given = {name: value for name, value in facts.items() if value}
    if actor is not FROM_RECORDING:
        given["actor_id"] = actor_id(actor)
    return Recording(given)


def entry(
    *,
    actor: ActorOrUnset = FROM_RECORDING,
    action: str,
    resource: Resource,
    details: Mapping[str, Any] | None = None,
    request: AnyRequest | None = None,
    origin: Origin = "server",
    data_subject: str = "",
    purpose: str = "",
    legal_basis: str = "",
) -> NewEntry:
    """Build an entry for :func:`record_many`, with the arguments of :func:`record`."""
    if isinstance(resource, Model):
        resource_type, resource_id = resource_of(type(resource), resource.pk)
    else:
        resource_type, resource_id = resource
    current = current_recording()
    facts = {} if current is None else current.facts
    given: dict[str, Any] = {} if request is None else _client(request)
    given |= {"purpose": purpose, "legal_basis": legal_basis}
    given = {**facts, **{name: value for name, value in given.items() if value}}
    given["actor_id"] = actor_id(actor)
    return NewEntry(
        action=action,
        resource_type=resource_type,
        resource_id=str(resource_id),
        details=details or {},
        origin=origin,
        data_subject=data_subject,
        **given,
    )


def resource_of(model: type[Model], key: Any) -> tuple[str, str]:
    """Return the resource of entries about a row, as long as an entry can store."""
    return (
        model._meta.label_lower[-MAX_LENGTHS["resource_type"] :],
        str(key)[: MAX_LENGTHS["resource_id"]],
    )


def action_name(model_name: str, verb: str) -> str:
    """Return the action ``<model>_<verb>``, as long as an entry can store."""
    return f"{model_name}_{verb}"[-MAX_LENGTHS["action"] :]


def _client(request: AnyRequest) -> dict[str, Any]:
    max_length = audit_settings.USER_AGENT_MAX_LENGTH
    return {
        "client_address": client_address(request),
        "user_agent": user_agent(request, max_length),
    }


def actor_id(actor: ActorOrUnset) -> Any:
    """Return the primary key of an actor; ``TypeError`` if there is none to take it from."""
    if actor is not FROM_RECORDING:
        return getattr(actor, "pk", actor)
    current = current_recording()
    if current is None or "actor_id" not in current.facts:
        raise TypeError("Pass actor=…, or call it inside 'with audit.recording(actor=…)'.")
    return current.facts["actor_id"]
