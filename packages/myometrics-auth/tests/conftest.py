from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pyotp
import pytest
import time_machine
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_core.events import Event, is_reserved_action, register_receiver
from myometrics_core.events.bus import _receivers
from myometrics_core.times import utc_now

PASSWORD = "quiet-otter-paddles-42"
NEW_PASSWORD = "loud-heron-wades-17"


def send(client: APIClient, method: str, path: str, body: Any) -> Any:
    """A JSON request to ``/api/{path}``; the body may hold what DRF's test client can't encode."""
    return client.generic(
        method.upper(), f"/api/{path}", json.dumps(body), content_type="application/json"
    )


def sign_out(client: APIClient, refresh: Any) -> Any:
    """End the session of a refresh token."""
    return send(client, "post", "auth/logout/", {"refresh": refresh})


def refresh_by(client: APIClient, refresh: Any) -> Any:
    """Request an access token with a refresh token."""
    return send(client, "post", "auth/token/refresh/", {"refresh": refresh})


def enrol(client: APIClient) -> None:
    """Set up a second factor; ``client`` then has ``app`` (the authenticator) and
    ``recovery_codes``.
    """
    answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
    assert answer.status_code == 201
    client.app = pyotp.parse_uri(answer.json()["otpauth_url"])
    answer = send(client, "post", "auth/mfa/confirm/", {"code": client.app.at(utc_now())})
    assert answer.status_code == 200
    client.recovery_codes = answer.json()["recovery_codes"]


def query_of(link: str) -> dict[str, str]:
    """The query parameters of a link."""
    return dict(parse_qsl(urlsplit(link).query))


def later(**span: float) -> AbstractContextManager[object]:
    """Travel in time by ``timedelta(**span)``; the clock then runs on."""
    return time_machine.travel(utc_now() + timedelta(**span))


@pytest.fixture
def clock() -> Iterator[time_machine.Traveller]:
    """A stopped clock that tests move with ``shift``."""
    start = datetime(2026, 3, 2, 9, 0, 10, tzinfo=timezone.utc)
    with time_machine.travel(start, tick=False) as traveller:
        yield traveller


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    """Creates users: generated addresses, password ``PASSWORD``, names Jane Smith."""
    numbers = count(1)

    def make(email: str | None = None, **fields: Any) -> Any:
        given = {"first_name": "Jane", "last_name": "Smith", "password": PASSWORD, **fields}
        email = email or f"user{next(numbers)}@clinic.example"
        return get_user_model().objects.create_user(email=email, **given)

    return make


@pytest.fixture
def doctor(make_user: Callable[..., Any]) -> Any:
    return make_user("doctor@clinic.example")


@pytest.fixture
def administrator(make_user: Callable[..., Any]) -> Any:
    return make_user("admin@clinic.example", role="admin")


@pytest.fixture
def api() -> APIClient:
    """An anonymous client."""
    return APIClient()


@pytest.fixture
def sign_in() -> Callable[..., APIClient]:
    """Signs a user in over the API; returns a client with the access token.

    ``client.tokens`` is the body of the answer.
    """

    def sign_in_as(user: Any, password: str = PASSWORD, **headers: str) -> APIClient:
        client = APIClient(**headers)
        credentials = {"email": user.email, "password": password}
        answer = send(client, "post", "auth/login/", credentials)
        assert answer.status_code == 200, answer.json()
        client.tokens = answer.json()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}", **headers)
        return client

    return sign_in_as


@pytest.fixture
def enrolled(clock: Any, doctor: Any, sign_in: Callable[..., APIClient]) -> APIClient:
    """The client of a doctor with a second factor, a minute after :func:`enrol`."""
    client = sign_in(doctor)
    enrol(client)
    clock.shift(60)
    return client


@pytest.fixture(autouse=True)
def _published_actions_are_reserved() -> Iterator[None]:
    """Fail if auth publishes an action other than ``logout`` that is not reserved."""
    open_to_clients: set[str] = set()

    def note(event: Event) -> None:
        if event.source == "auth" and not is_reserved_action(event.action):
            open_to_clients.add(event.action)

    register_receiver("reserved", note)
    yield
    _receivers.pop("reserved")
    assert open_to_clients <= {"logout"}


@pytest.fixture
def published() -> Iterator[list[Event]]:
    """The published events, in order."""
    seen: list[Event] = []
    register_receiver("test", seen.append)
    yield seen
    register_receiver("test", lambda event: None, resource_types=())
