"""Event bus between packages.

A writer calls :func:`publish` inside its own transaction. Each subscribed receiver runs in a
savepoint of that transaction and stores any resulting job as a row there. Packages that keep a
history register a source, so that a receiver that is added later can catch up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal

from django.db import transaction

from ..db.transactions import is_serialization_failure
from ..times import whole_milliseconds

logger = logging.getLogger("myometrics.core.events")

MAX_BATCH: Final = 500

Origin = Literal["client", "server", "import"]
"""Origin of an event: a client of the API, the server's own code, or an import."""

CLIENT_ACTIONS = frozenset(
    {
        "upload_created",
        "upload_processing",
        "upload_completed",
        "upload_failed",
        "analysis_ready",
        "logout",
    }
)
"""Actions that clients report, and that can't be reserved. Clients report ``logout`` themselves."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """An action of a user or of the system.

    ``id`` is unique over all sources and stable over replays (``"audit:123"``): receivers must be
    idempotent on it. ``actor_id`` is the acting user's primary key in its native type, ``None`` for
    anonymous. ``occurred_at`` is aware. ``details`` is JSON-serializable. ``origin`` is
    ``"client"`` for events that a client of the API reports and the server has not observed.
    """

    id: str
    actor_id: Any | None
    action: str
    resource_type: str
    resource_id: str
    occurred_at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)
    client_address: str | None = None
    user_agent: str = ""
    origin: Origin | None = "server"

    @property
    def source(self) -> str:
        """Name of the publishing package: the part of the id before the colon."""
        return self.id.partition(":")[0]


Receiver = Callable[[Event], None]
BatchReceiver = Callable[[Sequence[Event]], None]
Replay = Callable[[], Iterator[Event]]


@dataclass(frozen=True)
class _Subscription:
    receiver: Receiver
    resource_types: Container[str] | None
    except_sources: Container[str]
    catch_up: str
    batch_receiver: BatchReceiver | None

    def wants(self, source: str, resource_type: str) -> bool:
        is_wanted = self.resource_types is None or resource_type in self.resource_types
        return is_wanted and source not in self.except_sources


_receivers: dict[str, _Subscription] = {}
_sources: dict[str, Replay] = {}
_reserved_actions: set[str] = set()


def register_receiver(
    name: str,
    receiver: Receiver,
    *,
    resource_types: Container[str] | None = None,
    except_sources: Container[str] = (),
    catch_up: str = "",
    batch_receiver: BatchReceiver | None = None,
) -> None:
    """Subscribe ``receiver`` to all events, or to those of ``resource_types``.

    Events from ``except_sources`` (such as the package's own) are skipped. ``catch_up`` is the
    management command that replays missed events into the receiver; error logs name it.
    ``batch_receiver`` is called instead of ``receiver`` with up to 500 events that were published
    together, in order; if it raises, ``receiver`` is called with each of them. Call it in
    ``AppConfig.ready``. A second registration of a name replaces the first.
    """
    _receivers[name] = _Subscription(
        receiver, resource_types, except_sources, catch_up, batch_receiver
    )


def register_source(name: str, replay: Replay) -> None:
    """Register a source whose ``replay()`` yields all its events, oldest first."""
    _sources[name] = replay


def register_reserved_actions(*actions: str) -> None:
    """Reserve action names for the server: clients of the API can't post them.

    For actions that a package records itself. Names are matched exactly. Names in
    :data:`CLIENT_ACTIONS` stay available to clients. Call it in ``AppConfig.ready``.
    """
    _reserved_actions.update(set(actions) - CLIENT_ACTIONS)


def is_reserved_action(action: str) -> bool:
    """Return whether only the server may record ``action``."""
    return action in _reserved_actions


def is_awaited(*, source: str, resource_type: str) -> bool:
    """Return whether any receiver subscribes to such events."""
    return any(known.wants(source, resource_type) for known in _receivers.values())


def publish(event: Event) -> None:
    """Deliver ``event`` to every subscribed receiver, inside the caller's transaction.

    A receiver that raises is rolled back to its savepoint and logged; the writer and the other
    receivers are not affected. Delivery is not retried: the log names the missed event and, if the
    receiver has a catch-up command and a source exists, that command. Serialization failures and
    deadlocks propagate to the writer, which must run the whole transaction again. Times are
    truncated to milliseconds, the precision of the audit log, so that a replayed event equals the
    published one.
    """
    event = _in_milliseconds(event)
    for name, subscription in list(_receivers.items()):
        if subscription.wants(event.source, event.resource_type):
            _deliver(name, subscription, event)


def publish_many(events: Iterable[Event]) -> None:
    """Publish many events with a few statements per 500 events.

    Equivalent to calling :func:`publish` for each in order, except that one receiver may get a
    whole batch before the next receiver gets its first event.
    """
    remaining = map(_in_milliseconds, events)
    while batch := list(islice(remaining, MAX_BATCH)):
        for name, subscription in list(_receivers.items()):
            wanted = [one for one in batch if subscription.wants(one.source, one.resource_type)]
            _deliver_batch(name, subscription, wanted)


def _in_milliseconds(event: Event) -> Event:
    return replace(event, occurred_at=whole_milliseconds(event.occurred_at))


def replay_events(names: Iterable[str] | None = None) -> Iterator[Event]:
    """Yield all past events of the named sources (default: all), source by source."""
    for name in list(_sources) if names is None else names:
        yield from _sources[name]()


def _deliver_batch(name: str, subscription: _Subscription, batch: Sequence[Event]) -> None:
    if len(batch) > 1 and subscription.batch_receiver is not None:
        try:
            with transaction.atomic():
                subscription.batch_receiver(batch)
            return
        except Exception as error:
            if is_serialization_failure(error):
                raise
            text = "Receiver %s failed on a batch of %d events; it gets them one by one"
            logger.warning(text, name, len(batch), exc_info=True)
    for event in batch:
        _deliver(name, subscription, event)


def _deliver(name: str, subscription: _Subscription, event: Event) -> None:
    try:
        with transaction.atomic():
            subscription.receiver(event)
    except Exception as error:
        if is_serialization_failure(error):
            raise
        recovery = "it can't be delivered again"
        if subscription.catch_up and _sources:
            recovery = f"to deliver it again, run: {subscription.catch_up}"
        text = "Receiver %s failed on event %s (%s) and has missed it; %s"
        logger.exception(text, name, event.id, event.action, recovery)
