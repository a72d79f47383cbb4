from __future__ import annotations

from datetime import datetime, timezone
from itertools import count

import pytest
import time_machine
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_analytics.facts.event_conversion import receive_events
from myometrics_core.events import Event, publish

NUMBERS = count(1)
NOON = datetime.now(timezone.utc).replace(hour=12, minute=0, second=0, microsecond=0)


@pytest.fixture(autouse=True)
def _noon():
    """Start each test at noon: midnight is far away."""
    with time_machine.travel(NOON):
        yield


@pytest.fixture
def make_user(db):
    """Create users."""

    def make(**fields):
        return get_user_model().objects.create_user(email=f"p{next(NUMBERS)}@site.test", **fields)

    return make


@pytest.fixture
def user(make_user):
    return make_user()


@pytest.fixture
def administrator(make_user):
    return make_user(is_staff=True)


@pytest.fixture
def client_of():
    """Return a client signed in as the given user."""

    def signed_in(user):
        client = APIClient(raise_request_exception=False)
        client.force_authenticate(user)
        return client

    return signed_in


def make_event(
    user,
    action="upload_created",
    upload_id=None,
    at=None,
    origin="server",
    **details,
):
    """Build an upload event of ``user``, as the audit log publishes it."""
    return Event(
        id=f"test:{next(NUMBERS)}",
        actor_id=getattr(user, "pk", user),
        action=action,
        resource_type="upload",
        resource_id=upload_id or f"upload-{next(NUMBERS)}",
        occurred_at=at or datetime.now(timezone.utc),
        details=details,
        origin=origin,
    )


@pytest.fixture
def publish_upload():
    """Publish :func:`make_event`, as the audit log does."""

    def publish_event(*args, **details):
        publish(make_event(*args, **details))

    return publish_event


@pytest.fixture
def merge_events():
    """Merge many events at once, as a rebuild does."""
    return lambda events: receive_events(list(events))


@pytest.fixture
def report(administrator, client_of):
    """Get ``/api/analytics/`` as an administrator."""

    def get(**query):
        response = client_of(administrator).get("/api/analytics/", query)
        assert response.status_code == 200, response.content
        return response.json()

    return get
