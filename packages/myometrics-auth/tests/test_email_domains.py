"""E-mail domains that folding would change into another domain."""

from __future__ import annotations

import pytest
from conftest import PASSWORD, send
from django.contrib.auth import get_user_model
from django.core import mail

from myometrics_auth.jobs import SendPasswordReset
from myometrics_auth.services.passwords import password_reset_request
from myometrics_core.jobs import run_jobs

pytestmark = pytest.mark.django_db

AMBIGUOUS = [
    ("a@straße.example", "a@strasse.example"),
    ("a@STRAẞE.example", "a@strasse.example"),
    ("a＠straße.example", "a@strasse.example"),
    ("a@οδος.example", "a@οδοσ.example"),
    ("a@οδοϲ.example", "a@οδοσ.example"),
    ("a@cli\u200dnic.example", "a@clinic.example"),
    ("a@cli\u200cnic.example", "a@clinic.example"),
    ("a@clinic⒈example", "a@clinic1.example"),
    ("a@clinic․example", "a@clinic.example"),
]
"""An entered address, and the address of another user that folding would make of it."""

SAME = [
    ("a@clinic。example", "a@clinic.example"),
    ("a@ＣＬＩＮＩＣ．example", "a@clinic.example"),
    ("a@MÜLLER.example", "a@xn--mller-kva.example"),
    ("a@ΟΔΟΣ.example", "a@xn--pxavbq.example"),
    ("a@cli\u00adnic.example", "a@clinic.example"),
]


def register(api, email):
    body = {"email": email, "password": PASSWORD, "firstName": "A", "lastName": "B"}
    return send(api, "post", "auth/register/", body)


@pytest.mark.parametrize("email", [typed for typed, _ in AMBIGUOUS])
def test_an_ambiguous_domain_is_refused_at_registration(api, email):
    answer = register(api, email)
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["email"]
    assert not get_user_model().objects.exists()


@pytest.mark.parametrize(("typed", "other"), AMBIGUOUS)
def test_an_ambiguous_domain_finds_no_other_account(api, make_user, typed, other):
    make_user(other)
    login = {"email": typed, "password": PASSWORD}
    assert send(api, "post", "auth/login/", login).status_code == 401
    password_reset_request(email=typed)
    assert run_jobs(SendPasswordReset.name) == 1
    assert mail.outbox == []
    users = get_user_model().objects
    assert not users.filter(email=typed).exists()
    assert not users.filter(email__iexact=typed).exists()
    assert users.get_or_create(email=typed)[1]


@pytest.mark.parametrize(("typed", "stored"), SAME)
def test_other_spellings_of_a_domain_find_the_account(api, make_user, typed, stored):
    user = make_user(typed)
    assert user.email == stored
    assert register(api, stored).status_code == 400
    login = {"email": typed, "password": PASSWORD}
    assert send(api, "post", "auth/login/", login).status_code == 200


def test_the_local_part_folds_as_before(api):
    assert register(api, "Groß@clinic.example").json()["user"]["email"] == "gross@clinic.example"
