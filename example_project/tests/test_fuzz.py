"""For any request, the response matches the schema, and is never a 500.

Schemathesis generates valid and invalid requests from the OpenAPI document, as a doctor and
as an administrator.
"""

import os
from datetime import timedelta

import pytest
import schemathesis
from conftest import make_user
from django.contrib.auth import get_user_model
from django.test import override_settings
from hypothesis import settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from config.wsgi import application
from myometrics_auth.models import Session
from myometrics_auth.tokens import access_token
from myometrics_core.times import utc_now

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
UNLIMITED = {"auth": None, "api": None, "export": None}

schema = schemathesis.openapi.from_wsgi("/api/schema/", application)


@pytest.fixture(autouse=True)
def _no_limits(settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": UNLIMITED}


def token_of(role):
    email = f"{role}@fuzz.example"
    user = get_user_model().objects.filter(email=email, is_active=True, role=role).first()
    if user is None:
        get_user_model().objects.filter(email=email).delete()
        user = make_user(email, role=role)
    session = Session.objects.create(user=user, expires_at=utc_now() + timedelta(days=1))
    return access_token(session)


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("keep_connections")  # thousands of requests
@pytest.mark.parametrize("role", ["doctor", "admin"])
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
)
def test_every_response_matches_schema(case, role):
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        case.call_and_validate(headers={"Authorization": f"Bearer {token_of(role)}"}, checks=CHECKS)
