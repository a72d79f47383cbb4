from __future__ import annotations

import json
import re
from datetime import datetime, timedelta, timezone
from itertools import count
from urllib.parse import parse_qsl, urlencode, urlsplit

import pyotp
import pytest
import time_machine
from django.contrib.auth import get_user_model
from django.core import mail
from rest_framework.test import APIClient

from myometrics_auth.jobs import (
    SendEmailChange,
    SendEmailUndo,
    SendInvitation,
    SendPasswordReset,
    SendVerification,
)
from myometrics_core.events import Event, is_reserved_action, register_receiver
from myometrics_core.events.bus import _receivers
from myometrics_core.jobs import run_jobs
from myometrics_core.times import utc_now

pytest_plugins = ["federation_fixtures"]

PASSWORD = "quiet-otter-paddles-42"
NEW_PASSWORD = "loud-heron-wades-17"
MAIL_JOBS = (SendVerification, SendInvitation, SendEmailChange, SendEmailUndo, SendPasswordReset)


def send(client, method, path, body):
    """A JSON request to ``/api/{path}``; the body may hold what DRF's test client can't encode."""
    return client.generic(
        method.upper(), f"/api/{path}", json.dumps(body), content_type="application/json"
    )


def sign_out(client, refresh):
    """End the session of a refresh token."""
    return send(client, "post", "auth/logout/", {"refresh": refresh})


def refresh_by(client, refresh):
    """Request an access token with a refresh token."""
    return send(client, "post", "auth/token/refresh/", {"refresh": refresh})


def enrol(client):
    """Set up a second factor; ``client`` then has ``app`` (the authenticator) and
    ``recovery_codes``.
    """
    answer = send(client, "post", "auth/mfa/enrol/", {"password": PASSWORD})
    assert answer.status_code == 201
    client.app = pyotp.parse_uri(answer.json()["otpauth_url"])
    answer = send(client, "post", "auth/mfa/confirm/", {"code": client.app.at(utc_now())})
    assert answer.status_code == 200
    client.recovery_codes = answer.json()["recovery_codes"]


def query_of(link):
    """The query parameters of a link."""
    return dict(parse_qsl(urlsplit(link).query))


def later(**span):
    """Travel in time by ``timedelta(**span)``; the clock then runs on."""
    return time_machine.travel(utc_now() + timedelta(**span))


@pytest.fixture
def clock():
    """A stopped clock that tests move with ``shift``."""
    start = datetime(2026, 3, 2, 9, 0, 10, tzinfo=timezone.utc)
    with time_machine.travel(start, tick=False) as traveller:
        yield traveller


@pytest.fixture
def make_user(db):
    """Creates users: generated addresses, password ``PASSWORD``, names Jane Smith."""
    numbers = count(1)

    def make(email=None, **fields):
        given = {"first_name": "Jane", "last_name": "Smith", "password": PASSWORD, **fields}
        email = email or f"user{next(numbers)}@clinic.example"
        return get_user_model().objects.create_user(email=email, **given)

    return make


@pytest.fixture
def doctor(make_user):
    return make_user("doctor@clinic.example")


@pytest.fixture
def administrator(make_user):
    return make_user("admin@clinic.example", role="admin")


@pytest.fixture
def api():
    """An anonymous client."""
    return APIClient()


@pytest.fixture
def sign_in():
    """Signs a user in over the API; returns a client with the access token.

    ``client.tokens`` is the body of the answer.
    """

    def sign_in_as(user, password=PASSWORD, **headers):
        client = APIClient(**headers)
        credentials = {"email": user.email, "password": password}
        answer = send(client, "post", "auth/login/", credentials)
        assert answer.status_code == 200, answer.json()
        client.tokens = answer.json()
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {client.tokens['access']}", **headers)
        return client

    return sign_in_as


@pytest.fixture(autouse=True)
def _distinct_codes():
    """Draw secrets of which no two codes of an hour are equal, and none is ``000000``.

    Tests send ``000000``, and codes of other times, as wrong ones.
    """
    draw = pyotp.random_base32

    def drawn():
        while True:
            secret = draw()
            app, now = pyotp.TOTP(secret), utc_now()
            codes = [app.at(now, counter_offset=step) for step in range(-2, 122)]
            if len({"000000", *codes}) == len(codes) + 1:
                return secret

    # Not the fixture monkeypatch: a test's own patches would then outlast its database.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pyotp, "random_base32", drawn)
        yield


@pytest.fixture
def enrolled(clock, doctor, sign_in):
    """The client of a doctor with a second factor, a minute after :func:`enrol`."""
    client = sign_in(doctor)
    enrol(client)
    clock.shift(60)
    return client


@pytest.fixture(autouse=True)
def _published_actions_are_reserved():
    """Fail if auth publishes an action other than ``logout`` that is not reserved."""
    open_to_clients: set[str] = set()

    def note(event):
        if event.source == "auth" and not is_reserved_action(event.action):
            open_to_clients.add(event.action)

    register_receiver("reserved", note)
    yield
    _receivers.pop("reserved")
    assert open_to_clients <= {"logout"}


@pytest.fixture
def published():
    """The published events, in order."""
    seen: list[Event] = []
    register_receiver("test", seen.append)
    yield seen
    register_receiver("test", lambda event: None, resource_types=())


def run_mails(*kinds):
    """Run the pending jobs of ``kinds``, or all that mail; return the mails sent so far."""
    for kind in kinds or MAIL_JOBS:
        run_jobs(kind.name)
    return mail.outbox


def link_in(message):
    """The link in a mail, as path and query for a client."""
    url = urlsplit(re.search(r"https?://\S+", message.body).group())
    return f"{url.path}?{url.query}"


def post_form(client, link, **form):
    """Send the form of a page that a mail links to, as a browser does."""
    return client.post(link, urlencode(form), content_type="application/x-www-form-urlencoded")
