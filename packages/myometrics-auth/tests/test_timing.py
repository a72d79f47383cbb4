"""What an answer costs says nothing about whether an account exists.

The time of an answer is that of its work: password hashes, which take nearly all of it, and
statements. So the work is compared, which no other load on the machine changes.
"""

from __future__ import annotations

import re

import pytest
from conftest import PASSWORD, send
from django.core import mail
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from hosts_own import QuickPBKDF2
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _counted_hashes(settings):
    settings.PASSWORD_HASHERS = ["hosts_own.QuickPBKDF2"]
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 10_000}


def work(call):
    """The work of a call: the iterations of each password hash, and each statement."""
    QuickPBKDF2.computed.clear()
    with CaptureQueriesContext(connection) as queries:
        call()
    return list(QuickPBKDF2.computed), [kind_of(query["sql"]) for query in queries]


def kind_of(statement):
    """A statement without its values and without names of savepoints."""
    return re.sub(r"'(?:[^']|'')*'|\"s\d+_x\d+\"|\b[0-9a-f-]{32,}\b|\b\d+\b", "?", statement)


def login(email, password="wrong"):
    body = {"email": email, "password": password}

    def call():
        assert send(APIClient(), "post", "auth/login/", body).status_code == 401

    return call


def admin_login(email, password="wrong"):
    def call():
        form = {"username": email, "password": password}
        assert Client().post("/admin/login/", form).status_code == 200

    return call


def reset(email):
    def call():
        answer = send(APIClient(), "post", "auth/password-reset/", {"email": email})
        assert answer.status_code == 200

    return call


@pytest.fixture
def existing(make_user):
    """Accounts of each sort, by the password that is tried on them."""
    return {
        "wrong": make_user(),
        PASSWORD: make_user(is_active=False),
        "any": make_user(password=None),
    }


def test_failed_sign_ins_do_the_same_work(existing):
    unknown = work(login("unknown@clinic.example"))
    assert unknown[0] == [QuickPBKDF2.iterations]
    for password, user in existing.items():
        assert work(login(user.email, password)) == unknown


def test_throttled_sign_in_does_the_same(make_user, settings):
    settings.MYOMETRICS_AUTH = {"FAILED_SIGN_IN_LIMIT": 1}
    throttled = make_user()
    login(throttled.email)()
    wrong_hashes, wrong_statements = work(login(throttled.email))
    right_hashes, right_statements = work(login(throttled.email, PASSWORD))
    assert right_hashes == wrong_hashes == [QuickPBKDF2.iterations]
    assert len(right_statements) == len(wrong_statements)


def test_failed_admin_logins_do_the_same_work(make_user):
    known, others = make_user(is_staff=True), make_user()
    inactive = make_user(is_active=False, is_staff=True)
    hashes, statements = work(admin_login("unknown@clinic.example"))
    assert hashes == [QuickPBKDF2.iterations]
    for email, password in (
        (known.email, "wrong"),
        (inactive.email, PASSWORD),
        (others.email, PASSWORD),
    ):
        found = work(admin_login(email, password))
        assert found[0] == hashes
        assert without_savepoints(found[1]) == without_savepoints(statements)


def without_savepoints(statements):
    return [statement for statement in statements if "SAVEPOINT" not in statement]


def test_resets_do_the_same_work_for_unknown_addresses(make_user):
    hashes, statements = work(reset("unknown@clinic.example"))
    assert (hashes, bool(statements)) == ([], True)
    assert work(reset(make_user().email)) == (hashes, statements)
    assert mail.outbox == [], "the mail is a task's, whatever the address"


def test_measurement_detects_a_backend_that_skips_the_hash(make_user, settings):
    settings.AUTHENTICATION_BACKENDS = ["hosts_own.HastyBackend"]
    assert work(login("unknown@clinic.example")) != work(login(make_user().email))
