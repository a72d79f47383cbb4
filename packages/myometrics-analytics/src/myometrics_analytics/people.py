"""The people that facts belong to: who still exists, held fast while facts are written."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connection

__all__ = ["people_hold", "people_hold_unless_busy", "people_known"]


def people_known(user_ids: Iterable[Any]) -> set[Any]:
    """Which of these primary keys belong to people who exist."""
    return set(_people(user_ids).values_list("pk", flat=True))


def people_hold(user_ids: Iterable[Any]) -> set[Any]:
    """As :func:`people_known`, and none of them can be deleted until the transaction ends.

    On PostgreSQL by the lock that a foreign key takes (``FOR KEY SHARE``): any number of writers
    share it, and nothing but a deletion waits for it. On SQLite writers are alone anyway.
    """
    return _held(user_ids, "FOR KEY SHARE")


def people_hold_unless_busy(user_ids: Iterable[Any]) -> tuple[set[Any], set[Any]]:
    """As :func:`people_hold`, but without waiting for anybody.

    Returns the keys of those who are held now, and of those who exist and are locked by another
    transaction, which may be deleting them.
    """
    wanted = set(user_ids)
    existing = people_known(wanted)
    held = _held(wanted, "FOR KEY SHARE SKIP LOCKED")
    return held, existing - held


def _held(user_ids: Iterable[Any], locking: str) -> set[Any]:
    wanted = set(user_ids)
    if connection.vendor != "postgresql" or not wanted:
        return people_known(wanted)
    sql, parameters = _people(wanted).values_list("pk").query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(f"{sql} {locking}", parameters)
        return {row[0] for row in cursor.fetchall()}


def _people(user_ids: Iterable[Any]) -> Any:
    return get_user_model()._base_manager.filter(pk__in=set(user_ids)).order_by("pk")
