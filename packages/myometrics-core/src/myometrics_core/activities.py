"""The event seam: what happened in one package, told to the others.

A writer calls :func:`publish` inside its own transaction. Each interested receiver runs in a
savepoint of that transaction; what it owes because of the activity it writes as a row there.
Packages that keep history register a source, so that a receiver added later can catch up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import Any, Final, Literal

from django.db import transaction

from .times import whole_milliseconds
from .transactions import is_serialization_failure

__all__ = [
    "CLIENT_ACTIONS",
    "Activity",
    "Origin",
    "is_awaited",
    "is_reserved_action",
    "publish",
    "publish_many",
    "register_receiver",
    "register_reserved_actions",
    "register_source",
    "replay_activities",
]

logger = logging.getLogger("myometrics.core.activities")

MAX_BATCH: Final = 500

Origin = Literal["client", "server", "import"]
"""Who says that something happened: a client of the API, this site's own code, or an import."""

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
"""What clients report themselves, and so is never reserved. Clients log ``logout`` on their own."""


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Something that a user or the system did.

    ``id`` is unique over all sources and stable over replays (``"audit:123"``): receivers are
    idempotent on it. ``actor_id`` is the acting user's primary key in its native type, ``None``
    where nobody was signed in. ``occurred_at`` is aware. ``details`` is JSON-like. ``origin`` is
    ``"client"`` for what a client of the API claims, which the server has not seen itself.
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
        """The publishing package: the part of the id before the colon."""
        return self.id.partition(":")[0]


Receiver = Callable[[Activity], None]
BatchReceiver = Callable[[Sequence[Activity]], None]
Replay = Callable[[], Iterator[Activity]]


@dataclass(frozen=True)
class _Subscription:
    receiver: Receiver
    resource_types: Container[str] | None
    except_sources: Container[str]
    catch_up: str
    batch_receiver: BatchReceiver | None

    def wants(self, source: str, resource_type: str) -> bool:
        if source in self.except_sources:
            return False
        return self.resource_types is None or resource_type in self.resource_types


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
    """Have ``receiver`` called with every activity, or those of ``resource_types`` only.

    Activities of ``except_sources`` (a package's own, say) don't reach it. ``catch_up`` is the
    command that replays the sources into what the receiver has missed, for the log to name.
    ``batch_receiver`` is called in place of ``receiver`` with up to 500 activities that are
    published together, in their order; when it raises, ``receiver`` is called with each of them.
    Call it from ``AppConfig.ready``. Registering a name again replaces it.
    """
    _receivers[name] = _Subscription(
        receiver, resource_types, except_sources, catch_up, batch_receiver
    )


def register_source(name: str, replay: Replay) -> None:
    """Register a source whose ``replay()`` yields all its activities, oldest first."""
    _sources[name] = replay


def register_reserved_actions(*actions: str) -> None:
    """Reserve action names for the server: clients of the API can't post them.

    For actions that a package records itself. Names are exact. Those of :data:`CLIENT_ACTIONS`
    stay open to clients. Call it from ``AppConfig.ready``.
    """
    _reserved_actions.update(set(actions) - CLIENT_ACTIONS)


def is_reserved_action(action: str) -> bool:
    """Return whether only the server may record ``action``."""
    return action in _reserved_actions


def is_awaited(*, source: str, resource_type: str) -> bool:
    """Whether any receiver wants such activities; if none does, a writer needs no transaction."""
    return any(known.wants(source, resource_type) for known in _receivers.values())


def publish(activity: Activity) -> None:
    """Tell every interested receiver, inside the caller's transaction.

    A receiver that raises is rolled back to its savepoint and logged; neither the writer nor
    the other receivers are disturbed. It isn't told again: the log names the activity that it
    lacks, and the command that makes this good where the receiver has one and a source keeps what
    happened. Serialization failures and deadlocks reach the writer: the whole transaction has to
    be run again. Receivers get the time in whole milliseconds, as the audit log keeps it: what is
    replayed later equals what was published.
    """
    activity = _in_milliseconds(activity)
    for name, subscription in list(_receivers.items()):
        if subscription.wants(activity.source, activity.resource_type):
            _deliver(name, subscription, activity)


def publish_many(activities: Iterable[Activity]) -> None:
    """Publish many activities with a few statements for each 500 of them.

    To each receiver as if :func:`publish` were called for one after the other, but one receiver may
    get a whole batch before the next gets its first activity.
    """
    remaining = map(_in_milliseconds, activities)
    while batch := list(islice(remaining, MAX_BATCH)):
        for name, subscription in list(_receivers.items()):
            _deliver_batch(
                name,
                subscription,
                [item for item in batch if subscription.wants(item.source, item.resource_type)],
            )


def _in_milliseconds(activity: Activity) -> Activity:
    return replace(activity, occurred_at=whole_milliseconds(activity.occurred_at))


def replay_activities(names: Iterable[str] | None = None) -> Iterator[Activity]:
    """Every past activity of the named sources (default: all), source by source."""
    for name in list(_sources) if names is None else names:
        yield from _sources[name]()


def _deliver_batch(name: str, subscription: _Subscription, batch: Sequence[Activity]) -> None:
    if len(batch) > 1 and subscription.batch_receiver is not None:
        try:
            with transaction.atomic():
                subscription.batch_receiver(batch)
            return
        except Exception as error:
            if is_serialization_failure(error):
                raise
            logger.warning(
                "Receiver %s failed on a batch of %d activities; it gets them one by one",
                name,
                len(batch),
                exc_info=True,
            )
    for activity in batch:
        _deliver(name, subscription, activity)


def _deliver(name: str, subscription: _Subscription, activity: Activity) -> None:
    try:
        with transaction.atomic():
            subscription.receiver(activity)
    except Exception as error:
        if is_serialization_failure(error):
            raise
        logger.exception(
            "Receiver %s failed on activity %s (%s) and lacks it; %s",
            name,
            activity.id,
            activity.action,
            _remedy(subscription),
        )


def _remedy(subscription: _Subscription) -> str:
    if subscription.catch_up and _sources:
        return f"to make this good, run: {subscription.catch_up}"
    return "nothing brings it again"
