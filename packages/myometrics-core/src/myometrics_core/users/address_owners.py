"""Periods in which an e-mail address identifies a user.

Other services name users by their addresses. An address can pass from one user to another, so it
identifies a user only for a period. Packages that verify addresses register their
:class:`AddressOwners`; others look addresses up with :func:`address_ownerships`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class AddressOwnership:
    """A period in which an address identifies a user; ``None`` is an open end.

    ``key`` is stable and contains no address. Periods of one address and different users don't
    overlap.
    """

    key: str
    user_id: Any
    since: datetime | None = None
    until: datetime | None = None

    def includes(self, moment: datetime) -> bool:
        """Return whether ``moment`` is in the period; its end is not."""
        is_begun = self.since is None or self.since <= moment
        return is_begun and (self.until is None or moment < self.until)


class AddressOwners(ABC):
    """A source of ownerships. Their keys begin with ``name`` and a colon."""

    name: str

    @abstractmethod
    def of_addresses(self, addresses: Collection[str]) -> Mapping[str, Iterable[AddressOwnership]]:
        """Return the ownerships of canonical addresses, oldest first.

        The number of queries must not depend on the number of addresses.
        """

    @abstractmethod
    def of_keys(self, keys: Collection[str], *, lock: bool) -> Iterable[AddressOwnership]:
        """Return the ownerships of ``keys`` that still exist.

        ``lock``: keep them unchanged until the transaction ends.
        """


_owners: dict[str, AddressOwners] = {}
_receivers: dict[str, Callable[[], object]] = {}


def register_address_owners(owners: AddressOwners) -> None:
    """Register a source, replacing an earlier one of the same name. Call it in ``ready()``."""
    _owners[owners.name] = owners


def address_ownerships(addresses: Collection[str]) -> dict[str, list[AddressOwnership]]:
    """Return the ownerships of canonical addresses, from every source."""
    found: dict[str, list[AddressOwnership]] = defaultdict(list)
    if addresses:
        for owners in _owners.values():
            for address, ownerships in owners.of_addresses(addresses).items():
                found[address] += ownerships
    return found


def address_ownerships_by_key(
    keys: Iterable[str], *, lock: bool = False
) -> dict[str, AddressOwnership]:
    """Return the ownerships of ``keys`` that still exist; ``lock``: until the transaction ends."""
    by_source: dict[str, set[str]] = defaultdict(set)
    for key in keys:
        by_source[key.partition(":")[0]].add(key)
    return {
        ownership.key: ownership
        for name in sorted(by_source.keys() & _owners.keys())
        for ownership in _owners[name].of_keys(by_source[name], lock=lock)
    }


def connect_address_owners_changed(receiver: Callable[[], object], *, uid: str) -> None:
    """Call ``receiver`` in each transaction in which addresses get or lose an owner.

    The deletion of a user is not reported. ``uid`` identifies the receiver.
    """
    _receivers[uid] = receiver


def address_owners_changed() -> None:
    """Notify the receivers that addresses got or lost an owner, in the same transaction."""
    for receiver in list(_receivers.values()):
        receiver()
