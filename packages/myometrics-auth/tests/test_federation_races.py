"""Concurrent sign-ins with an identity provider."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from conftest import send
from django.contrib.auth import get_user_model
from federation_fixtures import respelled
from rest_framework.test import APIClient

from myometrics_auth.federation.models import Identity
from myometrics_auth.models import Session
from myometrics_core.times import utc_now
from myometrics_testing.oidc_provider import respond
from myometrics_testing.waiting import wait_for

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("patient_site"),
]

PROFILE = "/api/auth/user/"


def statuses(outcomes):
    errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert not errors, errors
    return Counter(answer.status_code for answer in outcomes)


@pytest.fixture
def google(configure, provider):
    configure(access_tokens="tokeninfo", tokeninfo_endpoint=f"{provider.issuer}/tokeninfo")
    return provider


def test_fifty_first_requests_make_one_call_and_one_account(google, bearer, run_concurrently):
    client = bearer(google.google_token())
    answers = run_concurrently(lambda: client.get(PROFILE), times=50)
    assert statuses(answers) == {200: 50}
    assert google.calls["/tokeninfo"] == 1
    assert get_user_model().objects.count() == Identity.objects.count() == 1
    assert Session.objects.count() == 1


def test_first_tokens_of_one_user_make_one_account(google, bearer, run_concurrently):
    clients = [bearer(google.google_token()) for _ in range(20)]
    answers = run_concurrently([lambda c=client: c.get(PROFILE) for client in clients])
    assert statuses(answers) == {200: 20}
    assert get_user_model().objects.count() == Identity.objects.count() == 1
    assert Session.objects.count() == 1


def test_one_of_two_spellings_of_a_token_is_a_session(
    provider, configure, bearer, run_concurrently
):
    configure(access_tokens="jwt")
    token = provider.access_token(options={"key": "ec"})
    clients = [bearer(token), bearer(respelled(token))]
    answers = run_concurrently([lambda c=client: c.get(PROFILE) for client in clients * 5])
    assert statuses(answers) == {200: 5, 401: 5}
    assert Session.objects.count() == 1


def test_first_tokens_of_two_identities_link_one(google, bearer, make_user, run_concurrently):
    make_user("ada@clinic.example", verified_at=utc_now())
    clients = [bearer(google.google_token(str(number))) for number in range(8)]
    answers = run_concurrently([lambda c=client: c.get(PROFILE) for client in clients])
    assert statuses(answers) == {200: 1, 403: 7}
    assert Identity.objects.count() == 1


def test_an_id_token_signs_in_once(provider, exchange, run_concurrently):
    token = provider.id_token()
    answers = run_concurrently(lambda: exchange(token), times=10)
    assert statuses(answers) == {200: 1, 401: 9}
    assert Session.objects.count() == 1


def test_a_code_signs_in_once(provider, configure, run_concurrently):
    body = {"redirect_uri": "https://clinic.example/"}
    started = send(APIClient(), "post", "auth/providers/hospital/authorize/", body).json()
    sent = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    answers = run_concurrently(
        lambda: send(APIClient(), "post", "auth/providers/hospital/callback/", sent), times=10
    )
    assert statuses(answers) == {200: 1, 400: 9}


def test_a_logout_token_counts_once(provider, configure, run_concurrently):
    token = provider.logout_token()

    def post():
        return APIClient().generic(
            "POST",
            "/api/auth/providers/hospital/logout/",
            f"logout_token={token}",
            content_type="application/x-www-form-urlencoded",
        )

    assert statuses(run_concurrently(post, times=10)) == {200: 1, 400: 9}


def test_registration_beside_a_first_sign_in_makes_one_account(
    provider, exchange, run_concurrently
):
    body = {
        "email": "ada@clinic.example",
        "password": "quiet-otter-paddles-42",
        "firstName": "Ada",
        "lastName": "King",
    }
    answers = run_concurrently(
        [
            *[lambda: send(APIClient(), "post", "auth/register/", body)] * 5,
            *[lambda: exchange(provider.id_token())] * 5,
        ]
    )
    assert set(statuses(answers)) <= {200, 201, 400, 403}
    assert get_user_model().objects.count() == 1
    user = get_user_model().objects.get()
    # A self-registered address is not verified, so it is never linked.
    assert Identity.objects.exists() != bool(user.self_registered)


def test_one_of_two_last_identities_stays(provider, exchange, run_concurrently):
    client = APIClient()
    tokens = exchange(provider.id_token("17")).json()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
    body = {"provider": "hospital", "id_token": provider.id_token("18")}
    send(client, "post", "auth/identities/", body)
    own = Session.objects.get()
    own.federated.delete()  # so that unlinking does not end it
    keys = list(Identity.objects.values_list("pk", flat=True))
    answers = run_concurrently(
        [lambda k=key: client.delete(f"/api/auth/identities/{k}/") for key in keys]
    )
    assert statuses(answers) == {204: 1, 409: 1}


def test_request_does_not_queue_behind_a_slow_discovery(
    provider, configure, exchange, run_concurrently, monkeypatch
):
    monkeypatch.setattr("myometrics_auth.federation.discovery.QUEUE_SECONDS", 0.1)
    path, gate = "/.well-known/openid-configuration", threading.Event()

    def slow(handler):
        gate.wait(60)
        respond(handler, 500, {})

    provider.answers[path] = slow

    def second():
        wait_for(lambda: provider.calls[path] == 1)
        try:
            return exchange(provider.id_token())
        finally:
            gate.set()

    answers = run_concurrently([lambda: exchange(provider.id_token()), second])
    assert statuses(answers) == {503: 2}
    assert provider.calls[path] == 1


def test_more_than_eight_calls_wait_and_then_get_a_503(
    google, bearer, run_concurrently, monkeypatch
):
    monkeypatch.setattr("myometrics_auth.federation.provider_requests.QUEUE_SECONDS", 0.1)
    clients = [bearer(google.google_token(str(number))) for number in range(9)]
    google.gate.clear()

    def ask(client):
        return client.get(PROFILE)

    def last():
        wait_for(lambda: google.calls["/tokeninfo"] == 8)
        try:
            return ask(clients[8])
        finally:
            google.gate.set()

    answers = run_concurrently([*[lambda c=c: ask(c) for c in clients[:8]], last])
    assert answers[8].status_code == 503
    assert answers[8]["Retry-After"]
    assert google.calls["/tokeninfo"] == 8
