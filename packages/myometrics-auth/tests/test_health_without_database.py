"""Authentication of health requests while the database is down."""

from __future__ import annotations

import pytest
from conftest import later
from django.contrib.auth.models import AnonymousUser
from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from myometrics_auth.authentication import SessionTokenAuthentication

pytestmark = pytest.mark.django_db


def offline(token):
    request = APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {token}")
    return SessionTokenAuthentication().authenticate_without_database(Request(request))


def test_valid_token_identifies_user_without_a_query(doctor, sign_in, django_assert_num_queries):
    token = sign_in(doctor).tokens["access"]
    with django_assert_num_queries(0):
        user, claims = offline(token)
    assert user.is_authenticated
    assert user.pk == doctor.pk
    assert claims.user_id == str(doctor.pk)


@pytest.mark.parametrize("token", ["", "x", "a.b.c", "é"])
def test_invalid_token_identifies_no_user(token):
    assert offline(token) is None


def test_refresh_or_expired_token_identifies_no_user(doctor, sign_in):
    tokens = sign_in(doctor).tokens
    assert offline(tokens["refresh"]) is None
    with later(minutes=16):
        assert offline(tokens["access"]) is None


def test_request_without_token_identifies_no_user():
    request = Request(APIRequestFactory().get("/"))
    assert SessionTokenAuthentication().authenticate_without_database(request) is None
    assert request.user == AnonymousUser()
