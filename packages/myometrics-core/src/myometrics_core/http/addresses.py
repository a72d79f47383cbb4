"""Client address of a request, shared by throttling, audit and access log.

The peer address is used unless the peer is a trusted proxy. Then the hops in the one configured
header are read from right to left, past trusted hops, up to the first untrusted one. The server
must not rewrite the peer address: see "The client's address" in the documentation.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from django.http import HttpRequest

from ..conf.core_settings import UNIX_SOCKET, core_settings
from ..texts import storable_text

if TYPE_CHECKING:
    from rest_framework.request import Request

logger = logging.getLogger("myometrics.core.client_address")

UNTRUSTED_PROXY: Final = (
    "Requests come with {header} from a private address that is no trusted proxy: if it is your "
    'proxy, name it in MYOMETRICS["TRUSTED_PROXIES"], or all its clients count as one'
)
MISSING_ADDRESS: Final = (
    "Requests come from a peer without an address, and all count as one client: if it is your "
    'proxy on a Unix socket, add "unix:" to MYOMETRICS["TRUSTED_PROXIES"]'
)
REWRITTEN_PEER: Final = (
    "The server replaces the peer's address by X-Forwarded-For, which clients can forge: switch "
    "that off (uvicorn --no-proxy-headers) and name your proxies in "
    'MYOMETRICS["TRUSTED_PROXIES"]'
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Proxies = tuple[str, ...]
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def client_address(request: HttpRequest | Request) -> str | None:
    """Return the client's address, which a client can't forge with a header.

    ``None`` if the peer has no address (a Unix socket) and ``TRUSTED_PROXIES`` has no ``unix:``.
    """
    peer = _parse(request.META.get("REMOTE_ADDR", ""))
    trusted = tuple(core_settings.TRUSTED_PROXIES)
    address = peer
    if not _is_trusted(peer, trusted):
        _warn_of_misconfiguration(request, peer)
        return None if peer is None else str(peer)
    hops = str(request.META.get(_header_name(), "")).split(",")
    for hop in (text.strip() for text in reversed(hops)):
        found = _parse(hop)
        if found is None and hop != UNIX_SOCKET:
            break
        address = found or address
        if not _is_trusted(found, trusted):
            break
    return None if address is None else str(address)


def canonical_address(address: str | None) -> str | None:
    """Return the canonical text of an IP address; ``None`` if it is empty.

    An IPv4 address mapped to IPv6 becomes IPv4. Raises ``ValueError`` for other text.
    """
    return str(_address(address)) if address else None


def in_networks(address: str | None, networks: Iterable[str]) -> bool:
    """Return whether ``address`` is in one of ``networks`` (CIDR); ``ValueError`` if invalid."""
    return address is not None and _is_within(_address(address), _parsed_networks(tuple(networks)))


def user_agent(request: HttpRequest | Request, max_length: int = 1024) -> str:
    """Return the user agent, truncated to ``max_length`` characters; ``""`` if not sent."""
    return storable_text(str(request.META.get("HTTP_USER_AGENT", "")), max_length)


def _is_trusted(peer: Address | None, proxies: Proxies) -> bool:
    if peer is None:
        return UNIX_SOCKET in proxies
    return _is_within(peer, _parsed_networks(proxies))


def _header_name() -> str:
    return "HTTP_" + str(core_settings.CLIENT_ADDRESS_HEADER).upper().replace("-", "_")


def _warn_of_misconfiguration(request: HttpRequest | Request, peer: Address | None) -> None:
    hops = request.META.get("HTTP_X_FORWARDED_FOR", "")
    if peer is None:
        _warn_once(MISSING_ADDRESS)
    elif str(request.META.get("REMOTE_PORT")) == "0" and request.META["REMOTE_ADDR"] in hops:
        # The server took the peer from the header; uvicorn then reports port 0.
        _warn_once(REWRITTEN_PEER)
    elif _header_name() in request.META and peer.is_private:
        _warn_once(UNTRUSTED_PROXY.format(header=core_settings.CLIENT_ADDRESS_HEADER))


@lru_cache(maxsize=8)
def _warn_once(message: str) -> None:
    logger.warning(message)


@lru_cache(maxsize=256)
def _parse(text: str) -> Address | None:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return _address(text.partition("%")[0])
    except ValueError:
        return None


def _address(text: str) -> Address:
    address = ipaddress.ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address


def _is_within(address: Address, networks: Networks) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=16)
def _parsed_networks(networks: Proxies) -> Networks:
    return tuple(
        ipaddress.ip_network(network, strict=False)
        for network in networks
        if network != UNIX_SOCKET
    )
