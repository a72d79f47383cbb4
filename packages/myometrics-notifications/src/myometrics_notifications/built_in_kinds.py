"""The built-in kinds: those of the specification, the export link and the hourly summary.

Specification: "NotificationSettings Model".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Count
from django.utils.translation import gettext_lazy as _

from myometrics_core.events import Event
from myometrics_core.times import utc_day

from .export_links import export_download_url
from .kinds import NotificationKind, kind_named, mailable_id
from .models import Message

__all__ = [
    "ADDITIONAL_KINDS",
    "BUILT_IN_KINDS",
    "AnalysisReady",
    "ExportReady",
    "RecordOpened",
    "Summary",
    "SystemAlerts",
    "UploadCompleted",
]


class _UploadKind(NotificationKind):
    """Sent to the uploader, once per upload.

    The mail identifies the upload only by its id: file names and findings can identify a patient.
    """

    default_on = True
    resource_type = "upload"

    def context(self, event: Event) -> Mapping[str, Any]:
        return {"upload_id": event.resource_id, "at": event.occurred_at.isoformat()}

    def template_context(
        self, stored: Mapping[str, Any], user: AbstractBaseUser
    ) -> Mapping[str, Any]:
        """Return ``upload_id`` (empty unless it is a plain identifier) and ``at``."""
        # Not in context(): messages queued by an earlier version must be filtered, too.
        return {**stored, "upload_id": mailable_id(stored["upload_id"])}

    def once_per(self, event: Event) -> str:
        """Once per upload: its events can be published twice."""
        return f"upload:{event.resource_id}"


class UploadCompleted(_UploadKind):
    """An upload of the recipient has been processed."""

    name = "upload_completed"
    title = _("Completed uploads")
    actions = frozenset({"upload_completed"})


class AnalysisReady(_UploadKind):
    """The analysis of one of the recipient's uploads is available."""

    name = "analysis_ready"
    title = _("Finished analyses")
    actions = frozenset({"analysis_ready"})


class SystemAlerts(NotificationKind):
    """The system's health got worse, or recovered.

    Only events from the health task are accepted: any signed-in user can write an audit entry with
    the same action.
    """

    name = "system_alerts"
    title = _("System alerts")
    resource_type = "system"
    actions = frozenset({"system_degraded", "system_down", "system_recovered"})
    sources = frozenset({"health"})

    def concerns(self, event: Event) -> Iterable[Any] | None:
        """Return ``None``: every user whose switch is on."""
        return None

    def context(self, event: Event) -> Mapping[str, Any]:
        """Return ``change`` (the action), ``status``, ``down`` (service names) and ``at``."""
        services = event.details.get("services")
        states = services if isinstance(services, Mapping) else {}
        return {
            "change": event.action,
            "status": str(event.details.get("status", "")),
            "down": sorted(str(name) for name, state in states.items() if state == "down"),
            "at": event.occurred_at.isoformat(),
        }


class ExportReady(NotificationKind):
    """The export that the recipient requested can be downloaded."""

    name = "export_ready"
    title = _("Data exports")
    optional = False

    def template_context(
        self, stored: Mapping[str, Any], user: AbstractBaseUser
    ) -> Mapping[str, Any]:
        """Return ``download_url`` (signed at each attempt, never stored) and ``expires_at``."""
        return {
            "download_url": export_download_url(stored["export_id"], user=user),
            "expires_at": datetime.fromisoformat(stored["expires_at"]),
        }


class Summary(NotificationKind):
    """The number of notifications that were not mailed one by one, by kind."""

    name = "summary"
    title = _("Summary of notifications")
    optional = False

    def template_context(
        self, stored: Mapping[str, Any], user: AbstractBaseUser
    ) -> Mapping[str, Any]:
        """Return ``total`` and ``counts``: ``title`` and ``count``, highest count first."""
        summarised = Message.objects.filter(summary_uuid=stored["summary"]).order_by()
        found = summarised.values("kind").annotate(count=Count("pk")).order_by("-count", "kind")
        counts = [{"title": _title(row["kind"]), "count": row["count"]} for row in found]
        return {"counts": counts, "total": sum(row["count"] for row in counts)}


class RecordOpened(NotificationKind):
    """A user outside the care team opened the recipient's record; for ``ADDITIONAL_KINDS``.

    The app ``myometrics_audit.access_report`` publishes the events. One mail a day: the report at
    the site has the accesses, and the mail says nothing about them.
    """

    name = "record_opened"
    title = _("Your record was opened outside your care team")
    default_on = True
    resource_type = "audit_log"
    actions = frozenset({"record_opened_outside_care_team"})
    sources = frozenset({"access_report"})

    def concerns(self, event: Event) -> Iterable[Any]:
        """Return the users that the site's function named."""
        users: Iterable[Any] = event.details["users_to_notify"]
        return users

    def context(self, event: Event) -> Mapping[str, Any]:
        return {"at": event.occurred_at.isoformat()}

    def once_per(self, event: Event) -> str:
        """Once per UTC day."""
        return f"record_opened:{utc_day(event.occurred_at)}"


def _title(name: str) -> str:
    kind = kind_named(name)
    return str(kind.title) if kind else name


BUILT_IN_KINDS: Final = (
    UploadCompleted(),
    AnalysisReady(),
    SystemAlerts(),
    ExportReady(),
    Summary(),
)
"""The kinds that this package registers, in order of registration."""

ADDITIONAL_KINDS: Final = (RecordOpened(),)
"""The kinds that a site can add by name, in the setting ``ADDITIONAL_KINDS``."""
