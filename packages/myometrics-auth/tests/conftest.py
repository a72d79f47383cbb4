from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_core.activities import Activity, register_receiver

PASSWORD = "quiet-otter-paddles-42"
NEW_PASSWORD = "loud-heron-wades-17"


def send(client: APIClient, method: str, path: str, body: Any) -> Any:
    """A JSON request to ``/api/{path}``; the body may hold what DRF's test client can't encode."""
    return client.generic(
        method.upper(), f"/api/{path}", json.dumps(body), content_type="application/json"
    )


@pytest.fixture
def make_user(db: None) -> Callable[..., Any]:
    """Makes users: addresses made up, password ``PASSWORD``, names Jane Smith."""
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
    """A client that nobody is signed in with."""
    return APIClient()


@pytest.fixture
def sign_in() -> Callable[..., APIClient]:
    """Signs a user in over the API; the client then bears the access token.

    ``client.tokens`` is the body of the answer.
    """

    def sign_in_as(user: Any, password: str = PASSWORD, **headers: str) -> APIClient:
        client = APIClient(**headers)
        answer = client.post(
            "/api/auth/login/", {"email": user.email, "password": password}, format="json"
        )
        assert answer.status_code == 200, answer.json()
        client.tokens = answer.json()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}", **headers)
        return client

    return sign_in_as


@pytest.fixture
def published() -> Iterator[list[Activity]]:
    """The activities that were published, as they come."""
    seen: list[Activity] = []
    register_receiver("test", seen.append)
    yield seen
    register_receiver("test", lambda activity: None, resource_types=())
