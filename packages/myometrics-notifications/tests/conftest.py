import itertools
from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model
from job_runs import end_pauses
from rest_framework.test import APIClient

from myometrics_core.events import Event, publish, register_receiver
from myometrics_core.personal_data.sections import personal_data_sections
from myometrics_core.times import utc_now
from myometrics_notifications import kinds
from myometrics_notifications.kinds import register_kind
from myometrics_notifications.models import Message
from myometrics_testing.waiting import PATIENCE

numbers = itertools.count(1)

PATIENT = {
    "LEASE": timedelta(hours=1),
    "SERVER_PAUSE": timedelta(hours=1),
}
"""Settings under which no lease or pause ends during a test."""


@pytest.fixture(autouse=True)
def _no_pause():
    end_pauses()


@pytest.fixture
def make_user(db):
    """Create a user of the third-party site."""

    def make(**fields):
        fields.setdefault("email", f"user{next(numbers)}@clinic.example")
        return get_user_model().objects.create_user(**fields)

    return make


@pytest.fixture
def user(make_user):
    return make_user(email="ada@clinic.example", full_name="Ada Byron")


@pytest.fixture
def admin(client, make_user):
    """A client that is signed in to the admin site as a superuser."""
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def client_of():
    """An API client that is signed in as a user."""

    def client(user):
        api = APIClient()
        api.force_authenticate(user)
        return api

    return client


@pytest.fixture
def make_event():
    """Build an event of the audit log that has just happened."""

    def make(**fields):
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
def health_change(make_event):
    """Build an event as the health task publishes it."""

    def make(action="system_degraded", **fields):
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
        return make_event(**{**values, **fields})

    return make


@pytest.fixture
def published():
    """The events that were published, in order."""
    seen = []
    register_receiver("test", seen.append)
    yield seen
    register_receiver("test", lambda event: None, resource_types=())


@pytest.fixture
def queued(user, make_event):
    """A due message to ``user``."""
    publish(make_event(actor_id=user.pk, resource_id="upload_001"))
    return Message.objects.get()


@pytest.fixture
def mail_server(mail_server, settings):
    """The plugin's mail server, with timeouts that a slow machine does not reach."""
    settings.MYOMETRICS_NOTIFICATIONS = PATIENT
    settings.MYOMETRICS = {**settings.MYOMETRICS, "SMTP_TIMEOUT": PATIENCE}
    return mail_server


@pytest.fixture
def media(settings, tmp_path):
    """The folder of the default storage."""
    folder = tmp_path / "media"
    folder.mkdir()
    settings.MEDIA_ROOT = str(folder)
    return folder


@pytest.fixture
def host_templates(settings, tmp_path):
    """Write the site's own templates of a kind: file names and texts."""
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path / "templates")]}]

    def write(kind, files):
        folder = tmp_path / "templates" / "myometrics_notifications" / kind
        folder.mkdir(parents=True)
        for name, text in files.items():
            (folder / name).write_text(text)

    return write


@pytest.fixture
def use_kind(monkeypatch):
    """Register a site's kind as ``AppConfig.ready`` does, until the end of the test."""
    monkeypatch.setattr(kinds, "_kinds", dict(kinds._kinds))
    return register_kind


@pytest.fixture
def exported_switches():
    """Return the switches in a user's data export."""
    (section,) = (s for s in personal_data_sections() if s.name == "notification_settings")

    def exported(user):
        (switches,) = section.export(user)
        return dict(switches)

    return exported
