"""Kinds of notification: what is written about, to whom, and how often.

A host adds one by a subclass of :class:`NotificationKind`, two templates and a call of
:func:`register_kind` in ``AppConfig.ready``.
"""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Collection, Container, Iterable, Mapping
from typing import Any, ClassVar, Final

from django.utils.functional import Promise

from myometrics_core.activities import Activity

__all__ = [
    "RESOURCE_TYPES",
    "NotificationKind",
    "kind_named",
    "kinds_for",
    "mailable_id",
    "register_kind",
    "registered_kind",
    "registered_kinds",
]

_NAME = re.compile(r"[a-z]+(_[a-z0-9]+)*")
_MAILABLE_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_RESERVED = {"email_notifications"}


class NotificationKind(ABC):
    """A reason to write to people, with a switch of its own.

    Class attributes:

    - ``name``: snake_case, at most 50 characters; the key of the switch in the API, and the
      folder of the templates ``myometrics_notifications/<name>/{body.txt,body.html}``.
    - ``title``: what people see it called (translatable), also in the subject; a template
      ``subject.txt`` beside the others says another.
    - ``default_on``: whether people get it who never touched the switch.
    - ``optional``: ``False`` for an answer to a person's own request: it has no switch, heeds
      none and offers no unsubscribing.
    - ``resource_type``, ``actions``: the activities that it is about. A kind about several types
      leaves ``resource_type`` empty and has a ``wants`` of its own, which each activity asks.
    - ``sources``: whose activities are believed, empty: everybody's. Whoever is signed in can
      write an audit entry (source ``audit``) that says anything. So a kind that writes to others
      than who acted, or repeats what ``details`` say, names the package that publishes.
    """

    name: ClassVar[str]
    title: ClassVar[str | Promise]
    default_on: ClassVar[bool] = False
    optional: ClassVar[bool] = True
    resource_type: ClassVar[str] = ""
    actions: ClassVar[Collection[str]] = ()
    sources: ClassVar[Collection[str]] = ()

    def wants(self, activity: Activity) -> bool:
        """Whether this activity, of ``resource_type`` if there is one, is written about at all."""
        is_believed = not self.sources or activity.source in self.sources
        is_about = activity.resource_type == self.resource_type and activity.action in self.actions
        return is_believed and is_about

    def concerns(self, activity: Activity) -> Iterable[Any] | None:
        """Primary keys of the people to write to; ``None``: everyone whose switch is on.

        Switches are heeded afterwards, by the outbox. By default the person who acted.
        """
        return () if activity.actor_id is None else (activity.actor_id,)

    def context(self, activity: Activity) -> Mapping[str, Any]:
        """JSON-ready values for the templates; stored until the message is purged.

        ``at`` (ISO 8601) is when it happened. Leave out what must not stand in a mail: names of
        patients, findings, and text that a client wrote, which could be somebody else's appeal to
        follow a link. By default ``resource_id`` as :func:`mailable_id` returns it.
        """
        return {
            "resource_id": mailable_id(activity.resource_id),
            "at": activity.occurred_at.isoformat(),
        }

    def template_context(self, stored: Mapping[str, Any], user: Any) -> Mapping[str, Any]:
        """What the templates get, made from :meth:`context`'s values at each attempt to send.

        The place for what must not be stored: links with tokens, names.
        """
        return stored

    def once_per(self, activity: Activity) -> str:
        """Text that two causes share when a person is to hear of them only once.

        By default the activity's id: the very same activity never sends twice.
        """
        return activity.id


def mailable_id(text: str) -> str:
    """Return ``text`` if it is a plain identifier, else ``""``.

    Clients choose the ids of what they record; a mail must not carry their sentences or links.
    """
    return text if _MAILABLE_ID.fullmatch(text) else ""


_kinds: dict[str, NotificationKind] = {}


def register_kind(kind: NotificationKind) -> None:
    """Add ``kind``; registering a name again replaces it (that is how to change a built-in one).

    Raises ``ValueError`` for a name that can't be a switch.
    """
    if not _NAME.fullmatch(kind.name) or len(kind.name) > 50 or kind.name in _RESERVED:
        raise ValueError(f"{kind.name!r} can't be the name of a notification kind")
    _kinds[kind.name] = kind


def registered_kinds() -> list[NotificationKind]:
    """Every kind, in order of registration: first the built-in ones."""
    return list(_kinds.values())


def kind_named(name: str) -> NotificationKind | None:
    """The kind of that name, or ``None``."""
    return _kinds.get(name)


def registered_kind(name: str) -> NotificationKind:
    """The kind of that name; raises ``LookupError`` if there is none."""
    kind = kind_named(name)
    if kind is None:
        raise LookupError(f"no notification kind {name!r} is registered")
    return kind


def kinds_for(activity: Activity) -> list[NotificationKind]:
    """The kinds that write about ``activity``."""
    kinds = [kind for kind in _kinds.values() if _is_about(kind, activity.resource_type)]
    return [kind for kind in kinds if kind.wants(activity)]


class _ResourceTypes(Container[str]):
    def __contains__(self, resource_type: object) -> bool:
        return any(_is_about(kind, resource_type) for kind in _kinds.values())


RESOURCE_TYPES: Final = _ResourceTypes()
"""Holds each resource type that a registered kind may write about; others cost nothing."""


def _is_about(kind: NotificationKind, resource_type: object) -> bool:
    has_wish_of_its_own = type(kind).wants is not NotificationKind.wants
    return resource_type == kind.resource_type if kind.resource_type else has_wish_of_its_own
