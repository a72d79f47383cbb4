"""The ``on_delete`` handler of an entry's user, for every path of Django's collector.

A plain ``CASCADE`` doesn't work: with any ``pre_delete`` receiver Django loads the entries one by
one, and the guards refuse to delete or change an entry without its erasure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.models.deletion import Collector

EraseOrRetain = Callable[..., Any]
_connected: list[EraseOrRetain] = []


def connect_erase_or_retain(service: EraseOrRetain) -> None:
    """Register ``service(user=…, using=…)``, which erases or retains a user's entries.

    It returns the erasure or ``None``. The app registers it: an import here would be circular.
    """
    _connected[:] = [service]


def ERASE_OR_RETAIN(
    collector: Collector,
    field: models.ForeignKey[Any, Any],
    entries: models.QuerySet[Any],
    using: str,
) -> None:
    """``on_delete`` of an entry's user: erase or retain entries, depending on ``ON_USER_DELETE``.

    Loads no entries into the collector. Runs in the collector's transaction, after ``pre_delete``
    signals and before any row is deleted.
    """
    # One for all batches of users, and first: users are locked before their rows.
    if not any(isinstance(queryset, _UserEntries) for queryset in collector.fast_deletes):
        user_entries = _UserEntries(model=entries.model, query=entries.query.chain(), using=using)
        user_entries.collector, user_entries.user_model = collector, field.remote_field.model
        collector.fast_deletes.insert(0, user_entries)


# The collector then does not evaluate ``entries``.
ERASE_OR_RETAIN.lazy_sub_objs = True  # type: ignore[attr-defined]


class _UserEntries(models.QuerySet[Any]):
    """A query set for the collector's fast deletes that erases or retains the entries instead."""

    collector: Collector
    user_model: type[models.Model]

    def _raw_delete(self, using: str | None) -> int:
        """Erase or retain the entries of each collected user; return the number of erased ones."""
        (erase_or_retain,) = _connected
        erasures = [erase_or_retain(user=user, using=using or self.db) for user in self._users()]
        return sum(erasure.entries for erasure in erasures if erasure and not erasure.pseudonym)

    def _users(self) -> list[Any]:
        """Return the collected users, ordered by primary key.

        Rows of subclasses are ignored: the collector also contains the parent row of each.
        """
        table = self.user_model._meta.concrete_model
        users = {
            user.pk: user
            for model, instances in self.collector.data.items()
            if model._meta.concrete_model is table
            for user in instances
        }
        return [users[key] for key in sorted(users)]
