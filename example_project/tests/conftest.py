"""The composed system: in this process for most tests, as real servers for the journey."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

PASSWORD = "correct-horse-battery"


def make_user(email, role="doctor", **fields):
    """A user by way of the model's manager."""
    return get_user_model().objects.create_user(email=email, password=PASSWORD, role=role, **fields)


def sign_in(user):
    """A client that has signed in as ``user`` by the API and sends the token it got."""
    client = APIClient()
    answer = client.post(
        "/api/auth/login/", {"email": user.email, "password": PASSWORD}, format="json"
    )
    assert answer.status_code == 200, answer.json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    client.tokens = answer.json()
    return client


@pytest.fixture
def anyone():
    """A client that has not signed in."""
    return APIClient()


@pytest.fixture
def doctor(db):
    return make_user("doctor@clinic.example", first_name="John", last_name="Doe")


@pytest.fixture
def administrator(db):
    return make_user("admin@clinic.example", role="admin", first_name="Ada", last_name="Berger")


@pytest.fixture
def as_doctor(doctor):
    return sign_in(doctor)


@pytest.fixture
def as_administrator(administrator):
    return sign_in(administrator)


@pytest.fixture(autouse=True)
def _requests_counted_before_are_forgotten():
    from myometrics_core.throttling import rate_limiter

    yield
    rate_limiter._limiters.clear()
    rate_limiter._local_until = 0.0


@pytest.fixture(autouse=True)
def _empty_redis(request):
    import os

    if os.environ.get("REDIS_URL"):
        request.getfixturevalue("redis_url")
