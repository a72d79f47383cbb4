"""The people that rows belong to: who exists, held fast, locked, and told of when deleted.

Who waits for whom, on PostgreSQL: see the decision record "Who waits for a person". On SQLite
writers are alone anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import QuerySet
from django.db.models.signals import pre_delete

from .transactions import write_lock

__all__ = [
    "connect_person_deleted",
    "people_hold",
    "people_hold_unless_busy",
    "people_known",
    "person_lock",
]

PersonDeleted = Callable[[Any, str], Any]


def people_known(user_ids: Iterable[Any], using: str = DEFAULT_DB_ALIAS) -> set[Any]:
    """Which of these primary keys belong to people who exist."""
    return set(_people(user_ids, using).values_list("pk", flat=True))


def people_hold(
    user_ids: Iterable[Any], using: str = DEFAULT_DB_ALIAS, *, among: QuerySet[Any] | None = None
) -> set[Any]:
    """As :func:`people_known`, and none of them can be deleted until the transaction ends.

    First in every transaction that writes rows about them after having changed others of theirs:
    a deletion locks the person before their rows, too. By the lock that a foreign key takes
    (``FOR KEY SHARE``): any number of writers share it, and nothing but a deletion waits for it.
    ``among`` are the people who come into question, of all.
    """
    return _held(user_ids, using, "FOR KEY SHARE", among)


def people_hold_unless_busy(
    user_ids: Iterable[Any], using: str = DEFAULT_DB_ALIAS
) -> tuple[set[Any], set[Any]]:
    """As :func:`people_hold`, but without waiting for anybody.

    Returns the keys of those who are held now, and of those who exist and are locked by another
    transaction, which may be deleting them.
    """
    wanted = set(user_ids)
    existing = people_known(wanted, using)
    held = _held(wanted, using, "FOR KEY SHARE SKIP LOCKED")
    return held, existing - held


def person_lock(user: Any, using: str = DEFAULT_DB_ALIAS) -> None:
    """Lock the row of ``user``, who is about to be deleted.

    Rows about them that others are writing are there afterwards; new ones have to wait. On SQLite,
    which has no row locks, the transaction is the only one that writes from here on.
    """
    write_lock(using)
    if connections[using].features.has_select_for_update:
        people = _people([user.pk], using).select_for_update()
        list(people.values_list("pk"))


def connect_person_deleted(receiver: PersonDeleted, *, uid: str) -> None:
    """Have ``receiver(user, using)`` called in each transaction that deletes a person, before.

    Only senders that are people are listened to: a listener to all would cost every model of the
    site its quick deletions. ``uid`` names the receiver; connecting it again changes nothing.
    """

    def person_deleted(instance: Any, using: str, **kwargs: Any) -> None:
        receiver(instance, using)

    user_model = get_user_model()
    proxies = [m for m in apps.get_models() if m._meta.proxy and issubclass(m, user_model)]
    for model in (user_model, *proxies):
        label = f"{uid}:{model._meta.label}"
        pre_delete.connect(person_deleted, sender=model, dispatch_uid=label, weak=False)


def _held(
    user_ids: Iterable[Any], using: str, locking: str, among: QuerySet[Any] | None = None
) -> set[Any]:
    wanted = set(user_ids)
    people = _people(wanted, using, among).values_list("pk", flat=True)
    if connections[using].vendor != "postgresql" or not wanted:
        return set(people)
    sql, parameters = people.order_by("pk").query.sql_with_params()
    with connections[using].cursor() as cursor:
        cursor.execute(f"{sql} {locking}", parameters)
        return {row[0] for row in cursor.fetchall()}


def _people(
    user_ids: Iterable[Any], using: str, among: QuerySet[Any] | None = None
) -> QuerySet[Any]:
    people = get_user_model()._base_manager.all() if among is None else among
    return people.using(using).filter(pk__in=set(user_ids)).order_by()
