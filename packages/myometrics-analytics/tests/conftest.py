from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from itertools import count
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_analytics.services import uploads_merge
from myometrics_analytics.upload_events import evidence_of
from myometrics_core.events import Event, publish

NUMBERS = count(1)


@pytest.fixture
def make_person(db: Any) -> Callable[..., Any]:
    """Makes people of the stranger's site."""

    def make(**fields: Any) -> Any:
        return get_user_model().objects.create_user(email=f"p{next(NUMBERS)}@site.test", **fields)

    return make


@pytest.fixture
def person(make_person: Callable[..., Any]) -> Any:
    return make_person()


@pytest.fixture
def administrator(make_person: Callable[..., Any]) -> Any:
    return make_person(is_staff=True)


@pytest.fixture
def as_person() -> Callable[[Any], APIClient]:
    """A client signed in as the given person."""

    def signed_in(person: Any) -> APIClient:
        client = APIClient(raise_request_exception=False)
        client.force_authenticate(person)
        return client

    return signed_in


def activity_about(
    person: Any,
    action: str = "upload_created",
    upload_id: str | None = None,
    at: datetime | None = None,
    origin: Any = "server",
    **details: Any,
) -> Event:
    """What ``person`` did with an upload, as the audit log publishes it."""
    return Event(
        id=f"test:{next(NUMBERS)}",
        actor_id=getattr(person, "pk", person),
        action=action,
        resource_type="upload",
        resource_id=upload_id or f"upload-{next(NUMBERS)}",
        occurred_at=at or datetime.now(timezone.utc),
        details=details,
        origin=origin,
    )


@pytest.fixture
def tell() -> Callable[..., None]:
    """Publishes an :func:`activity_about` an upload, as the audit log does."""

    def publish_event(*args: Any, **details: Any) -> None:
        publish(activity_about(*args, **details))

    return publish_event


@pytest.fixture
def tell_of_many() -> Callable[[Iterable[Event]], None]:
    """Merges many activities at once, as a rebuild does: for a past that is told quickly."""

    def merge(told: Iterable[Event]) -> None:
        uploads_merge(evidence=[found for one in told if (found := evidence_of(one))])

    return merge


@pytest.fixture
def report(administrator: Any, as_person: Callable[[Any], APIClient]) -> Callable[..., Any]:
    """The answer of ``GET /api/analytics/`` to an administrator."""

    def get(**query: Any) -> Any:
        response = as_person(administrator).get("/api/analytics/", query)
        assert response.status_code == 200, response.content
        return response.json()

    return get
