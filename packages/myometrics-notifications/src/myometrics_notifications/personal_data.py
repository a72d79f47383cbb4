"""What this package holds about a person. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from myometrics_core.personal_data import PersonalDataSection

from .exports import export_files_release
from .selectors import settings_of, switches
from .services import messages_erase

__all__ = ["NotificationSettingsSection"]


class NotificationSettingsSection(PersonalDataSection):
    """The switches, also before their first use. Erasure takes outbox and export files along."""

    name = "notification_settings"
    order = 20
    many = False

    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """Exactly one record; writes none."""
        yield switches(settings_of(user))

    def erase(self, user: Any) -> None:
        """Delete switches and messages, and let go of export files."""
        export_files_release(user=user)
        messages_erase(user=user)
