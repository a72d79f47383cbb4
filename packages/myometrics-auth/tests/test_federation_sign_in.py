"""Sign-in with tokens of an identity provider."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model

from myometrics_auth.federation.models import Identity
from myometrics_auth.models import Session

pytestmark = pytest.mark.django_db


def test_first_sign_in_creates_an_account(provider, exchange):
    answer = exchange(provider.id_token())
    assert answer.status_code == 200, answer.json()
    assert set(answer.json()) == {"access", "refresh", "user"}
    user = get_user_model().objects.get()
    assert (user.email, user.first_name, user.last_name) == (
        "ada@clinic.example",
        "Ada",
        "Lovelace",
    )
    assert user.role == "doctor"
    assert not user.has_usable_password()
    assert user.verified_at is not None
    assert not user.self_registered
    identity = Identity.objects.get()
    assert (identity.user, identity.issuer, identity.subject) == (user, provider.issuer, "17")


def test_bearer_of_a_jwt_is_accepted(provider, configure, bearer):
    configure(access_tokens="jwt")
    client = bearer(provider.access_token())
    answer = client.get("/api/auth/user/")
    assert answer.status_code == 200, answer.json()
    assert answer.json()["email"] == "ada@clinic.example"
    assert Session.objects.count() == 1
