"""Events about access by users outside the care team, as the site's function decides."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from myometrics_core.events import Event, publish_many
from myometrics_core.users import user_id_json

from ..conf import audit_settings
from ..log.events import SOURCE as AUDIT
from ..log.models import AuditLog
from ..sealing.export.interactions import ADMINISTRATION, outcome_of
from .report import REPORT_VIEWED

SOURCE: Final = "access_report"
"""Source of the events."""
OPENED_OUTSIDE: Final = "record_opened_outside_care_team"
NO_ACCESS: Final = ADMINISTRATION | {REPORT_VIEWED, "emergency_access_granted"}
"""Actions about a data subject that open none of their data."""


class _WatchedTypes(Container[str]):
    """Every resource type if the site has the function; otherwise none, at no cost to writers."""

    def __contains__(self, resource_type: object) -> bool:
        return audit_settings.ACCESS_REPORT_NOTIFY is not None


WATCHED_TYPES: Final = _WatchedTypes()


def receive_event(event: Event) -> None:
    """Publish an event if the new entry is an access from outside the care team."""
    receive_events([event])


def receive_events(events: Sequence[Event]) -> None:
    """Publish an event for each new entry that is an access from outside the care team.

    Skips refused and failed access, entries without a user, and actions of ``NO_ACCESS``.
    """
    ids = [int(event.id.partition(":")[2]) for event in events if event.source == AUDIT]
    if not ids:
        return
    entries = AuditLog.objects.filter(pk__in=ids, data_subject__gt="", user__isnull=False)
    publish_many(
        _event_about(entry, to_notify)
        for entry in entries.select_related("user").order_by("id")
        if _is_access(entry) and (to_notify := _users_to_notify(entry))
    )


def _is_access(entry: AuditLog) -> bool:
    return entry.action not in NO_ACCESS and outcome_of(entry.action) == "0"


def _users_to_notify(entry: AuditLog) -> list[str | int | None]:
    users = audit_settings.ACCESS_REPORT_NOTIFY(entry)
    keys = [user_id_json(getattr(user, "pk", user)) for user in users if user is not None]
    return [key for key in keys if str(key) != str(entry.user_id)]


def _event_about(entry: AuditLog, to_notify: list[str | int | None]) -> Event:
    """Return the event: without the data subject, because it may reach mails."""
    return Event(
        id=f"{SOURCE}:{entry.pk}",
        actor_id=entry.user_id,
        action=OPENED_OUTSIDE,
        resource_type="audit_log",
        resource_id=str(entry.pk),
        occurred_at=entry.timestamp,
        details={"users_to_notify": to_notify},
    )
