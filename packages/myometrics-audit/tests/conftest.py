from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from myometrics_audit.models import AuditLog


@pytest.fixture
def user(django_user_model):
    """A user who is not an administrator."""
    return django_user_model.objects.create_user(email="tina@clinic.example", password="pw")


@pytest.fixture
def administrator(django_user_model):
    """A user who may read the log."""
    return django_user_model.objects.create_user(
        email="anna@clinic.example", password="pw", is_staff=True
    )


@pytest.fixture
def client_of():
    """A function that returns an API client signed in as the given user."""

    def make(user):
        client = APIClient()
        client.force_authenticate(user)
        return client

    return make


@pytest.fixture
def write(user):
    """A function that writes an entry by ORM, with evidence but without publishing."""

    def make(**fields):
        values = {
            "user": user,
            "action": "upload_created",
            "resource_type": "upload",
            "resource_id": "upload_001",
            **fields,
        }
        return AuditLog.objects.create(**values)

    return make


@pytest.fixture(autouse=True)
def _no_rate_limit(settings):
    settings.MYOMETRICS = {"RATE_LIMITS": {"auth": None, "api": None, "export": None}}
