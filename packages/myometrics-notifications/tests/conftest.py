from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_core.activities import Activity
from myometrics_core.times import utc_now
from myometrics_notifications.mail_server import server_pause

numbers = itertools.count(1)


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
def make_activity() -> Callable[..., Activity]:
    """An activity of the audit log that has just happened."""

    def make(**fields: Any) -> Activity:
        values = {
            "id": f"audit:{next(numbers)}",
            "actor_id": None,
            "action": "upload_completed",
            "resource_type": "upload",
            "resource_id": f"upload_{next(numbers)}",
            "occurred_at": utc_now(),
            **fields,
        }
        return Activity(**values)

    return make


@pytest.fixture
def health_change(make_activity: Callable[..., Activity]) -> Callable[..., Activity]:
    """What the health task publishes."""

    def make(action: str = "system_degraded", **fields: Any) -> Activity:
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
