"""Insert, anonymize and purge accesses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.db import router

from ..people import people_hold, person_lock
from ..pseudonyms import keyed_hashes
from ..settings import core_settings
from ..texts import storable_text
from ..transactions import atomic_write
from ..users import parse_user_id
from .models import Access

__all__ = ["accesses_insert", "accesses_purge_chunk", "accesses_release_user", "address_keys"]

KEY_LENGTH = 32
LONGEST_MILLISECONDS = 2**31 - 1
HIGHEST_STATUS = 2**15 - 1


def accesses_insert(*, accesses: Sequence[Mapping[str, Any]]) -> None:
    """Insert ``accesses``, in the format that observers receive, in one transaction.

    A user who was deleted in the meantime is not stored: the insert shares a row lock with existing
    users, so it either precedes the erasure or sees its result.
    """
    using = router.db_for_write(Access)
    with atomic_write(using):
        named = {str(access["user_id"]) for access in accesses if access["user_id"] is not None}
        present = _hold_present(named, using)
        Access.objects.using(using).bulk_create([_row(access, present) for access in accesses])


def accesses_release_user(*, user: Any, using: str | None = None) -> int:
    """Anonymize the user's accesses and return their number.

    Clears the user id, address, address key and request id. Call it inside the transaction that
    deletes the user: it locks the user's row, so that no access is inserted concurrently.
    """
    using = using or router.db_for_write(Access)
    person_lock(user, using)
    rows = Access.objects.using(using).filter(user_id=str(user.pk))
    return rows.update(user_id="", ip_address=None, address_key="", request_id="")


def accesses_purge_chunk(*, before: datetime, limit: int) -> int:
    """Delete at most ``limit`` accesses from before ``before``, oldest first; return the number."""
    rows = Access.objects.using(router.db_for_write(Access))
    oldest = rows.filter(timestamp__lt=before).order_by("timestamp")
    return rows.filter(pk__in=oldest.values("pk")[:limit]).delete()[0]


def address_keys(address: str) -> list[str]:
    """Return the keyed hashes of an address, one for each of ``PSEUDONYM_KEYS``, newest key first.

    Empty for text that is not an IP address.
    """
    try:
        canonical = str(ipaddress.ip_address(address.strip()))
    except ValueError:
        return []
    return [key[:KEY_LENGTH] for key in keyed_hashes("access address", canonical)]


def _hold_present(user_ids: Iterable[str], using: str) -> set[str]:
    """Return existing ``user_ids``, locked against deletion until the transaction ends."""
    return {str(key) for key in people_hold(_keys(user_ids), using)}


def _keys(user_ids: Iterable[str]) -> Iterator[Any]:
    # A service account has no row in the user table, and its id may not be a valid user id.
    for user_id in user_ids:
        with suppress(ValueError):
            yield parse_user_id(user_id)


def _row(access: Mapping[str, Any], present: set[str]) -> Access:
    gone = access["user_id"] is not None and str(access["user_id"]) not in present
    known = access["user_id"] is not None and not gone
    address = None if gone else access["address"]
    plain = known or core_settings.ACCESS_TABLE_UNKNOWN_ADDRESSES == "plain"
    return Access(
        timestamp=datetime.fromisoformat(str(access["time"]).replace("Z", "+00:00")),
        user_id=str(access["user_id"]) if known else "",
        ip_address=address if plain else None,
        address_key=next(iter(address_keys(address)), "") if address else "",
        method=storable_text(str(access["method"]), 16),
        endpoint=storable_text(str(access["endpoint"]), 255),
        status=min(max(int(access["status"]), 0), HIGHEST_STATUS),
        milliseconds=min(round(access["milliseconds"]), LONGEST_MILLISECONDS),
        request_id="" if gone else storable_text(str(access["request_id"]), 64),
    )
