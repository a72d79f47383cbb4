from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_core.events import Event, publish, register_receiver
from myometrics_core.personal_data import personal_data_sections
from myometrics_core.times import utc_now
from myometrics_notifications import kinds
from myometrics_notifications.kinds import register_kind
from myometrics_notifications.models import Message
from myometrics_notifications.server_pause import server_pause
from myometrics_testing.smtp_server import SmtpServer
from myometrics_testing.waiting import PATIENCE

numbers = itertools.count(1)

PATIENT = {
    "SWEEP_SECONDS": 3600,
    "LEASE": timedelta(hours=1),
    "SERVER_PAUSE": timedelta(hours=1),
}
"""Settings under which no time-out, lease or pause ends in a test by itself."""


@pytest.fixture(autouse=True)
def _no_pause_left_from_another_test() -> Iterator[None]:
    server_pause.end()
    yield
    server_pause.end()


@pytest.fixture
def make_person(db: None) -> Callable[..., Any]:
    """Make a person of the stranger's site."""

    def make(**fields: Any) -> Any:
        fields.setdefault("email", f"person{next(numbers)}@clinic.example")
        return get_user_model().objects.create_user(**fields)

    return make


@pytest.fixture
def person(make_person: Callable[..., Any]) -> Any:
    return make_person(email="ada@clinic.example", full_name="Ada Byron")


@pytest.fixture
def client_of() -> Callable[[Any], APIClient]:
    """A signed-in API client of a person."""

    def client(user: Any) -> APIClient:
        api = APIClient()
        api.force_authenticate(user)
        return api

    return client


@pytest.fixture
def make_activity() -> Callable[..., Event]:
    """An activity of the audit log that has just happened."""

    def make(**fields: Any) -> Event:
        values = {
            "id": f"audit:{next(numbers)}",
            "actor_id": None,
            "action": "upload_completed",
            "resource_type": "upload",
            "resource_id": f"upload_{next(numbers)}",
            "occurred_at": utc_now(),
            **fields,
        }
        return Event(**values)

    return make


@pytest.fixture
def health_change(make_activity: Callable[..., Event]) -> Callable[..., Event]:
    """What the health task publishes."""

    def make(action: str = "system_degraded", **fields: Any) -> Event:
        details = {
            "status": "degraded",
            "previous_status": "healthy",
            "services": {"database": "up", "redis": "down"},
        }
        values = {
            "id": f"health:{next(numbers)}",
            "action": action,
            "resource_type": "system",
            "resource_id": "health",
            "details": details,
        }
        return make_activity(**{**values, **fields})

    return make


@pytest.fixture
def published() -> Iterator[list[Event]]:
    """The events that were published, in order."""
    seen: list[Event] = []
    register_receiver("test", seen.append)
    yield seen
    register_receiver("test", lambda activity: None, resource_types=())


@pytest.fixture
def queued(person: Any, make_activity: Callable[..., Event]) -> Message:
    """A message to ``person`` that is due."""
    publish(make_activity(actor_id=person.pk, resource_id="upload_001"))
    return Message.objects.get()


@pytest.fixture
def mail_server(mail_server: SmtpServer, settings: Any) -> SmtpServer:
    """As the plugin's, with all the time that a slow machine needs."""
    settings.MYOMETRICS_NOTIFICATIONS = PATIENT
    settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": PATIENCE}
    return mail_server


@pytest.fixture
def media(settings: Any, tmp_path: Path) -> Path:
    """Where the default storage keeps files."""
    folder = tmp_path / "media"
    folder.mkdir()
    settings.MEDIA_ROOT = str(folder)
    return folder


@pytest.fixture
def host_templates(settings: Any, tmp_path: Path) -> Callable[..., None]:
    """Give the host templates of its own for a kind: file names and texts."""
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path / "templates")]}]

    def write(kind: str, files: dict[str, str]) -> None:
        folder = tmp_path / "templates" / "myometrics_notifications" / kind
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)

    return write


@pytest.fixture
def use_kind(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Register a host's kind as ``AppConfig.ready`` does, and forget it after the test."""
    monkeypatch.setattr(kinds, "_kinds", dict(kinds._kinds))
    return register_kind


@pytest.fixture
def exported_switches() -> Callable[[Any], dict[str, bool]]:
    """What a person's export says of their switches."""
    (section,) = (s for s in personal_data_sections() if s.name == "notification_settings")

    def exported(user: Any) -> dict[str, bool]:
        (switches,) = section.export(user)
        return dict(switches)

    return exported
