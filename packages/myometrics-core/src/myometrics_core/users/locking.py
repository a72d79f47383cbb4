"""Locking of user rows. For the order of locks on PostgreSQL see the decision records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import QuerySet
from django.db.models.signals import pre_delete

from ..db.transactions import write_lock


def existing_user_ids(user_ids: Iterable[Any], using: str = DEFAULT_DB_ALIAS) -> set[Any]:
    """Return those of ``user_ids`` (primary keys) that exist."""
    return set(_users(user_ids, using).values_list("pk", flat=True))


def lock_users_shared(
    user_ids: Iterable[Any], using: str = DEFAULT_DB_ALIAS, *, among: QuerySet[Any] | None = None
) -> set[Any]:
    """Return those of ``user_ids`` that exist, locked against deletion until the transaction ends.

    Call it first in every transaction that inserts rows about users after changing other rows of
    theirs: a deletion locks the user before these rows, too. The lock is the one of a foreign key
    (``FOR KEY SHARE``): writers share it, and only a deletion waits for it. ``among`` restricts the
    users that are considered (default: all).
    """
    return _lock_users(user_ids, using, "FOR KEY SHARE", among)


def lock_users_shared_unless_busy(
    user_ids: Iterable[Any], using: str = DEFAULT_DB_ALIAS
) -> tuple[set[Any], set[Any]]:
    """As :func:`lock_users_shared`, but without waiting for locks.

    Returns the keys of the locked users, and the keys of the existing users that another
    transaction has locked, possibly to delete them.
    """
    wanted = set(user_ids)
    existing = existing_user_ids(wanted, using)
    locked = _lock_users(wanted, using, "FOR KEY SHARE SKIP LOCKED")
    return locked, existing - locked


def lock_user_for_delete(user: AbstractBaseUser, using: str = DEFAULT_DB_ALIAS) -> None:
    """Lock the row of ``user`` before its deletion.

    Waits for rows about the user that other transactions are inserting; later inserts wait for this
    transaction. On SQLite, which has no row locks, this takes the database's write lock.
    """
    write_lock(using)
    if connections[using].features.has_select_for_update:
        list(_users([user.pk], using).select_for_update().values_list("pk"))


def connect_user_deleted(receiver: Callable[[Any, str], object], *, uid: str) -> None:
    """Call ``receiver(user, using)`` in each transaction that deletes a user, before the deletion.

    Per-sender: a global ``pre_delete`` receiver would disable fast deletes for every model of the
    site. ``uid`` identifies the receiver; connecting it again has no effect.
    """

    def user_deleted(instance: Any, using: str, **kwargs: Any) -> None:
        receiver(instance, using)

    user_model = get_user_model()
    proxies = [m for m in apps.get_models() if m._meta.proxy and issubclass(m, user_model)]
    for model in (user_model, *proxies):
        label = f"{uid}:{model._meta.label}"
        pre_delete.connect(user_deleted, sender=model, dispatch_uid=label, weak=False)


def _lock_users(
    user_ids: Iterable[Any], using: str, locking: str, among: QuerySet[Any] | None = None
) -> set[Any]:
    wanted = set(user_ids)
    keys = _users(wanted, using, among).values_list("pk", flat=True)
    if connections[using].vendor != "postgresql" or not wanted:
        return set(keys)
    sql, parameters = keys.order_by("pk").query.sql_with_params()
    with connections[using].cursor() as cursor:
        cursor.execute(f"{sql} {locking}", parameters)
        return {row[0] for row in cursor.fetchall()}


def _users(
    user_ids: Iterable[Any], using: str, among: QuerySet[Any] | None = None
) -> QuerySet[Any]:
    users = get_user_model()._base_manager.all() if among is None else among
    return users.using(using).filter(pk__in=set(user_ids)).order_by()
