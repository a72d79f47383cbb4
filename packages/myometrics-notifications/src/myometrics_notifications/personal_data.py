"""Personal data of this package. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser

from myometrics_core.personal_data import PersonalDataSection

from .exports import export_files_release
from .selectors import settings_of, switches
from .services import messages_erase


class NotificationSettingsSection(PersonalDataSection):
    """The switches, with defaults before the first use. Erasure includes outbox and exports."""

    name = "notification_settings"
    order = 20
    many = False

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        """Return exactly one record; creates no row."""
        yield switches(settings_of(user))

    def erase(self, user: AbstractBaseUser) -> None:
        """Delete switches and messages, and detach export files."""
        export_files_release(user=user)
        messages_erase(user=user)
