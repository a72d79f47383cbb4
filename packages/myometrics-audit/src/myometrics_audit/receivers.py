"""Receivers of other packages' activities and of database signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate

from myometrics_core.events import Event

from .conf import audit_settings
from .log.entry_ids import connect_fixtures
from .log.guards import allow_flush, install_guards
from .log.services import activities_record
from .log.user_deletion import connect_release
from .sealing.erasures import entries_release_user

__all__ = ["connect", "receive_activities", "receive_activity"]


def receive_activity(activity: Event) -> None:
    """Record an activity of another package. ``apps`` excludes the activities of audit itself."""
    activities_record([activity])


def receive_activities(activities: Sequence[Event]) -> None:
    """Record many activities of other packages."""
    activities_record(activities)


def connect(sender: Any) -> None:
    """Connect all signal receivers; ``sender`` is audit's app configuration."""
    connect_release(entries_release_user)
    connect_fixtures()
    post_migrate.connect(_migrated, sender=sender, dispatch_uid="myometrics_audit:guards")
    connection_created.connect(_connected, dispatch_uid="myometrics_audit:flush")


def _migrated(using: str, **kwargs: Any) -> None:
    install_guards(using)


def _connected(connection: Any, **kwargs: Any) -> None:
    if audit_settings.ALLOW_FLUSH:
        allow_flush(connection)
