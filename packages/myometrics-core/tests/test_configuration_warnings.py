"""Misconfiguration that no system check can detect is logged once."""

import pytest
from django.test import RequestFactory

from myometrics_core.api.throttling import RateLimiter
from myometrics_core.http import addresses as rule


@pytest.fixture(autouse=True)
def _a_new_process():
    rule._warn_once.cache_clear()


def ask(peer, **headers):
    return rule.client_address(RequestFactory().get("/", REMOTE_ADDR=peer, **headers))


def test_untrusted_proxy_is_warned_of_once(caplog):
    for _ in range(3):
        assert ask("10.0.0.1", HTTP_X_FORWARDED_FOR="192.0.2.1") == "10.0.0.1"
    assert len(caplog.messages) == 1
    assert "TRUSTED_PROXIES" in caplog.messages[0]


def test_forged_header_is_not_warned_of(caplog):
    ask("8.8.8.8", HTTP_X_FORWARDED_FOR="192.0.2.1")
    ask("10.0.0.1")
    assert caplog.messages == []


def test_trusted_proxy_is_not_warned_of(caplog, settings):
    settings.MYOMETRICS = {"TRUSTED_PROXIES": ["10.0.0.0/8"]}
    assert ask("10.0.0.1", HTTP_X_FORWARDED_FOR="192.0.2.1") == "192.0.2.1"
    assert caplog.messages == []


def test_untrusted_peer_without_an_address_is_warned_of_once(caplog, settings):
    for _ in range(3):
        assert ask("", HTTP_X_FORWARDED_FOR="192.0.2.1") is None
    assert len(caplog.messages) == 1
    assert '"unix:"' in caplog.messages[0]
    settings.MYOMETRICS = {"TRUSTED_PROXIES": ["unix:"]}
    rule._warn_once.cache_clear()
    assert ask("", HTTP_X_FORWARDED_FOR="192.0.2.1") == "192.0.2.1"
    assert len(caplog.messages) == 1


def test_server_that_rewrites_the_peer_is_warned_of_once(caplog):
    for _ in range(3):
        ask("192.0.2.1", HTTP_X_FORWARDED_FOR="192.0.2.1", REMOTE_PORT=0)
    assert len(caplog.messages) == 1
    assert "--no-proxy-headers" in caplog.messages[0]


@pytest.mark.parametrize("port", [4711, "4711", None])
def test_server_that_keeps_the_peer_is_not_warned_of(caplog, port):
    ask("8.8.8.8", HTTP_X_FORWARDED_FOR="8.8.8.8", REMOTE_PORT=port)
    assert caplog.messages == []


@pytest.mark.parametrize(("debug", "times"), [(False, 1), (True, 0)])
def test_counting_in_memory_is_logged_once_per_process(caplog, settings, debug, times):
    settings.DEBUG = debug
    settings.MYOMETRICS = {"RATE_LIMIT_STORAGE": "memory://"}
    limiter = RateLimiter()
    for _ in range(3):
        limiter.reset()
    assert len(caplog.messages) == times
