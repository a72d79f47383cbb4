"""Kinds of notification: their events, recipients and frequency.

A site adds one with a subclass of :class:`NotificationKind`, two templates and a call of
:func:`register_kind` in ``AppConfig.ready``.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any, ClassVar, Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.utils.functional import Promise

from myometrics_core.events import Event

__all__ = ["NotificationKind", "register_kind", "registered_kind", "registered_kinds"]

_NAME = re.compile(r"[a-z]+(_[a-z0-9]+)*")
_MAILABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_RESERVED = {"email_notifications"}


class NotificationKind(ABC):
    """A kind of notification, with its own switch.

    Class attributes:

    - ``name``: snake_case, at most 50 characters; the key of the switch in the API, and the
      folder of the templates ``myometrics_notifications/<name>/{body.txt,body.html}``.
    - ``title``: display name (translatable), also used in the subject unless there is a
      template ``subject.txt``.
    - ``default_on``: whether the switch is on for users who have not changed it.
    - ``optional``: ``False`` for a response to the user's own request: it has no switch and no
      unsubscribe link, and is always sent.
    - ``resource_type``, ``actions``: the events that the kind handles. A kind for several
      resource types leaves ``resource_type`` empty and overrides ``wants``, which is then called
      for every event.
    - ``sources``: the packages whose events are accepted; empty accepts all. Any signed-in user
      can write an audit entry (source ``audit``) with arbitrary content. A kind that notifies
      users other than the actor, or repeats ``details``, must therefore name the publishing
      package.
    """

    name: ClassVar[str]
    title: ClassVar[str | Promise]
    default_on: ClassVar[bool] = False
    optional: ClassVar[bool] = True
    resource_type: ClassVar[str] = ""
    actions: ClassVar[Collection[str]] = ()
    sources: ClassVar[Collection[str]] = ()

    def wants(self, event: Event) -> bool:
        """Whether the kind handles this event; if ``resource_type`` is set, called only for it."""
        if self.sources and event.source not in self.sources:
            return False
        return event.resource_type == self.resource_type and event.action in self.actions

    def concerns(self, event: Event) -> Iterable[Any] | None:
        """Return the primary keys of the recipients; ``None``: every user whose switch is on.

        The outbox checks the switches afterwards. By default the user who acted.
        """
        return () if event.actor_id is None else (event.actor_id,)

    def context(self, event: Event) -> Mapping[str, Any]:
        """Return JSON-serializable values for the templates; stored until the message is purged.

        ``at`` (ISO 8601) is the time of the event. Leave out names of patients, findings, and text
        written by clients, which could contain a phishing link. By default ``resource_id`` as
        :func:`mailable_id` returns it.
        """
        return {
            "resource_id": mailable_id(event.resource_id),
            "at": event.occurred_at.isoformat(),
        }

    def template_context(
        self, stored: Mapping[str, Any], user: AbstractBaseUser
    ) -> Mapping[str, Any]:
        """Return the template context, built from the stored :meth:`context` at each attempt.

        Use it for values that must not be stored, such as names or links with tokens.
        """
        return stored

    def once_per(self, event: Event) -> str:
        """Return a deduplication key: each user gets one mail per key.

        By default the event's id, so that an event is never mailed twice.
        """
        return event.id


def mailable_id(text: str) -> str:
    """Return ``text`` if it is a plain identifier, else ``""``.

    Clients choose the ids of their records: free text or links must not reach a mail.
    """
    return text if _MAILABLE_ID.fullmatch(text) else ""


_kinds: dict[str, NotificationKind] = {}


def register_kind(kind: NotificationKind) -> None:
    """Add ``kind``; replaces a kind of the same name, for example a built-in one.

    Raises ``ValueError`` for a name that is not a valid switch name.
    """
    if not _NAME.fullmatch(kind.name) or len(kind.name) > 50 or kind.name in _RESERVED:
        raise ValueError(f"{kind.name!r} can't be the name of a notification kind")
    _kinds[kind.name] = kind


def registered_kinds() -> list[NotificationKind]:
    """Return every kind in order of registration, built-in kinds first."""
    return list(_kinds.values())


def kind_named(name: str) -> NotificationKind | None:
    """Return the kind of that name, or ``None``."""
    return _kinds.get(name)


def registered_kind(name: str) -> NotificationKind:
    """Return the kind of that name; raises ``LookupError`` if there is none."""
    kind = kind_named(name)
    if kind is None:
        raise LookupError(f"no notification kind {name!r} is registered")
    return kind


def kinds_for(event: Event) -> list[NotificationKind]:
    """Return the kinds that handle ``event``."""
    kinds = [kind for kind in _kinds.values() if _may_handle(kind, event.resource_type)]
    return [kind for kind in kinds if kind.wants(event)]


class _ResourceTypes(Container[str]):
    def __contains__(self, resource_type: object) -> bool:
        return any(_may_handle(kind, resource_type) for kind in _kinds.values())


RESOURCE_TYPES: Final = _ResourceTypes()
"""Contains each resource type that a registered kind may handle; other events are skipped early."""


def _may_handle(kind: NotificationKind, resource_type: object) -> bool:
    if kind.resource_type:
        return resource_type == kind.resource_type
    return type(kind).wants is not NotificationKind.wants
