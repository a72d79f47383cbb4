"""Who is calling: one rule for throttles, audit and access log alike.

The peer's address counts, unless the peer is a trusted proxy; then the chain in exactly one
header is walked from right to left, past trusted hops, to the first hop that isn't one.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from .settings import core_settings
from .texts import storable_text

__all__ = ["client_address", "in_networks", "user_agent"]

logger = logging.getLogger("myometrics.core.client_address")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]


def client_address(request: Any) -> str | None:
    """The client's address, which no client can choose by sending a header.

    Takes a Django or DRF request. ``None`` where the server tells of no peer (a Unix socket)
    and none is trusted.
    """
    peer = _parse(request.META.get("REMOTE_ADDR", ""))
    if peer is None:
        return None
    trusted = _parsed_networks(tuple(core_settings.TRUSTED_PROXIES))
    verified = peer
    if trusted and _is_within(peer, trusted):
        verified = _last_verified(peer, _forwarded(request), trusted)
    elif peer.is_private and _header_name() in request.META:
        _warn_of_untrusted_proxy(str(core_settings.CLIENT_ADDRESS_HEADER))
    return str(verified)


def in_networks(address: str | None, networks: Iterable[str]) -> bool:
    """Whether an address is of one of ``networks`` (CIDR); nobody's, ``None``, is of none.

    Raises ``ValueError`` for what is no address or no network.
    """
    return address is not None and _is_within(
        ipaddress.ip_address(address), _parsed_networks(tuple(networks))
    )


def user_agent(request: Any, max_length: int = 1024) -> str:
    """The client's user agent, ``""`` when it sent none, cut to ``max_length`` characters."""
    return storable_text(str(request.META.get("HTTP_USER_AGENT", "")), max_length)


def _last_verified(peer: Address, hops: Iterator[Address | None], trusted: Networks) -> Address:
    verified = peer
    for hop in hops:
        if hop is None:
            break
        verified = hop
        if not _is_within(hop, trusted):
            break
    return verified


def _forwarded(request: Any) -> Iterator[Address | None]:
    hops = str(request.META.get(_header_name(), "")).split(",")
    return (_parse(hop) for hop in reversed(hops))


def _header_name() -> str:
    return "HTTP_" + str(core_settings.CLIENT_ADDRESS_HEADER).upper().replace("-", "_")


@lru_cache(maxsize=4)
def _warn_of_untrusted_proxy(header: str) -> None:
    # Cached: once for each process and header.
    logger.warning(
        "Requests come with %s from a private address that is no trusted proxy: if it is your "
        'proxy, name it in MYOMETRICS["TRUSTED_PROXIES"], or all its clients count as one',
        header,
    )


def _parse(text: str) -> Address | None:
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_within(address: Address, networks: Networks) -> bool:
    return any(address.version == network.version and address in network for network in networks)


@lru_cache(maxsize=16)
def _parsed_networks(networks: tuple[str, ...]) -> Networks:
    return tuple(ipaddress.ip_network(network, strict=False) for network in networks)
