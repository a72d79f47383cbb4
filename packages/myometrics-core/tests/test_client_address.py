"""Clients can't forge their address."""

import pytest

from myometrics_core.http import client_address, in_networks, user_agent

PROXIES = ["10.0.0.0/8", "fd00::/8"]


def seen(rf, peer, forwarded=None, proxies=PROXIES, settings=None, header="X-Forwarded-For"):
    settings.MYOMETRICS = {"TRUSTED_PROXIES": proxies, "CLIENT_ADDRESS_HEADER": header}
    name = "HTTP_" + header.upper().replace("-", "_")
    extra = {name: forwarded} if forwarded is not None else {}
    return client_address(rf.get("/", REMOTE_ADDR=peer, **extra))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "10.9.9.9, 10.0.0.2", "10.9.9.9"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "garbage", "10.0.0.1"),
        ("10.0.0.1", "198.51.100.1, garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::7]:4711", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("fd00::1", "198.51.100.1", "198.51.100.1"),
        ("fe80::1%eth0", "198.51.100.1", "fe80::1"),
        ("10.0.0.1", "unknown, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, ", "10.0.0.1"),
        ("10.0.0.1", ", 198.51.100.1", "198.51.100.1"),
        ("", "198.51.100.1", None),
    ],
)
def test_address_is_the_last_one_sent_by_a_trusted_hop(rf, settings, peer, forwarded, expected):
    assert seen(rf, peer, forwarded, settings=settings) == expected


def test_headers_are_ignored_without_trusted_proxies(rf, settings):
    assert seen(rf, "10.0.0.1", "1.2.3.4", proxies=[], settings=settings) == "10.0.0.1"


UNIX = ["unix:", "10.0.0.0/8"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("", "198.51.100.1", "198.51.100.1"),
        ("", "1.2.3.4, 198.51.100.1", "198.51.100.1"),
        ("", "1.2.3.4, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("", "198.51.100.1, unix:", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1, unix:", "198.51.100.1"),
        ("", "2001:db8::7", "2001:db8::7"),
        ("", "garbage", None),
        ("", "198.51.100.1, garbage", None),
        ("", "", None),
        ("", None, None),
        ("unix:", "198.51.100.1", "198.51.100.1"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
    ],
)
def test_trusted_unix_socket_peer_sends_client_address(rf, settings, peer, forwarded, expected):
    assert seen(rf, peer, forwarded, proxies=UNIX, settings=settings) == expected


def test_missing_remote_addr_means_unix_socket(rf, settings):
    settings.MYOMETRICS = {"TRUSTED_PROXIES": ["unix:"]}
    request = rf.get("/", HTTP_X_FORWARDED_FOR="198.51.100.1")
    del request.META["REMOTE_ADDR"]
    assert client_address(request) == "198.51.100.1"


def test_unix_socket_hop_counts_only_if_trusted(rf, settings):
    assert seen(rf, "10.0.0.1", "198.51.100.1, unix:", settings=settings) == "10.0.0.1"


def test_unix_socket_entry_contains_no_address():
    assert not in_networks("203.0.113.9", ["unix:"])
    assert not in_networks(None, ["unix:"])


def test_only_the_configured_header_is_read(rf, settings):
    assert seen(rf, "10.0.0.1", "1.2.3.4", settings=settings, header="X-Real-IP") == "1.2.3.4"
    request = rf.get("/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="9.9.9.9")
    assert client_address(request) == "10.0.0.1"


def test_user_agent_is_sanitized_and_truncated(rf):
    assert user_agent(rf.get("/")) == ""
    assert user_agent(rf.get("/", HTTP_USER_AGENT="a\x00b" + "c" * 2000), 10) == "abcccccccc"
