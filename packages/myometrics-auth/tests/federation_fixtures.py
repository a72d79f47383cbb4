"""Fixtures of the tests of identity providers; a plugin of ``conftest.py``."""

from __future__ import annotations

import base64

import pytest
from conftest import send
from rest_framework.test import APIClient

from myometrics_auth.federation.discovery import clear_discovery
from myometrics_testing.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider
from myometrics_testing.waiting import PATIENCE


@pytest.fixture(scope="session")
def _provider_process():
    provider = OidcProvider()
    yield provider
    provider.stop()


@pytest.fixture
def provider(_provider_process):
    """A provider without memory of other tests."""
    fresh = _provider_process
    for mapping in (fresh.calls, fresh.answers, fresh.tokens, fresh.codes, fresh.userinfo):
        mapping.clear()
    fresh.metadata.clear()
    fresh.forms.clear()
    fresh.headers.clear()
    fresh.published[:] = ["rsa", "ec"]
    fresh.gate.set()
    clear_discovery()
    return fresh


@pytest.fixture
def configure(provider, settings):
    """Configures the provider as ``hospital``, with further keys."""

    def configure_as(slug="hospital", *, auth=None, **keys):
        given = {
            "issuer": provider.issuer,
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            **keys,
        }
        given = {name: value for name, value in given.items() if value is not None}
        settings.MYOMETRICS_AUTH = {
            **getattr(settings, "MYOMETRICS_AUTH", {}),
            "IDENTITY_PROVIDERS": {slug: given},
            **(auth or {}),
        }

    configure_as()
    return configure_as


@pytest.fixture
def patient_site():
    """Keep calls of a provider, and waits for them, from timing out on a slow machine."""
    timeouts = (
        "provider_requests.CONNECT_SECONDS",
        "provider_requests.TOTAL_SECONDS",
        "provider_requests.QUEUE_SECONDS",
        "discovery.QUEUE_SECONDS",
        "bearers.WAIT_SECONDS",
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in timeouts:
            patch.setattr(f"myometrics_auth.federation.{name}", PATIENCE)
        yield


@pytest.fixture
def exchange(configure):
    """Exchanges a token at ``token/``."""

    def exchange_token(token, kind="id_token", slug="hospital"):
        return send(APIClient(), "post", f"auth/providers/{slug}/token/", {kind: token})

    return exchange_token


@pytest.fixture
def bearer(configure):
    """A client that sends a foreign token."""

    def client_of(token, **headers):
        client = APIClient(**headers)
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
        return client

    return client_of


def respelled(token):
    """The token with another signature of the same content, by ECDSA's (r, n - s)."""
    signed, _dot, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    other = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return f"{signed}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"
