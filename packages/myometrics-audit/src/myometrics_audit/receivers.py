"""Receivers of other packages' events and of database signals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate

from myometrics_core.events import Event

from .conf import audit_settings
from .log.entry_ids import connect_fixtures
from .log.guards import allow_flush, install_guards
from .log.services import events_record
from .log.user_deletion import connect_erase_or_retain
from .sealing.erasures import entries_erase_or_retain

EXPORT = "export"
"""Source of the events ``data_exported``."""


def receive_event(event: Event) -> None:
    """Record an event of another package. ``apps`` excludes the events of audit itself."""
    receive_events([event])


def receive_events(events: Sequence[Event]) -> None:
    """Record many events of other packages, except exports if these are not recorded."""
    is_recorded = "exports" in audit_settings.RECORD_READS
    events_record([event for event in events if is_recorded or event.source != EXPORT])


def connect(sender: AppConfig) -> None:
    """Connect all signal receivers; ``sender`` is audit's app configuration."""
    connect_erase_or_retain(entries_erase_or_retain)
    connect_fixtures()
    post_migrate.connect(_migrated, sender=sender, dispatch_uid="myometrics_audit:guards")
    connection_created.connect(_connected, dispatch_uid="myometrics_audit:flush")


def _migrated(using: str, **kwargs: Any) -> None:
    install_guards(using)


def _connected(connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if audit_settings.ALLOW_FLUSH:
        allow_flush(connection)
