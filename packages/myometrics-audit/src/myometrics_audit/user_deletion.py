"""What happens to audit entries when their user is deleted, on every path of Django's collector.

Model signals and fast deletes can't do it: entries would be loaded one by one as soon as anything
listens to ``pre_delete``, and the guards refuse to delete or change an entry without its erasure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models

__all__ = ["RELEASE_ENTRIES", "connect_release"]

ReleaseUser = Callable[..., Any]
_connected: list[ReleaseUser] = []


def connect_release(release_user: ReleaseUser) -> None:
    """Have ``release_user(user=…, using=…)`` erase or retain a user's entries.

    It returns the erasure, if any. Connected by the app, since services build on models.
    """
    _connected[:] = [release_user]


def RELEASE_ENTRIES(collector: Any, field: Any, entries: Any, using: str) -> None:
    """``on_delete`` of an entry's user: ``CASCADE``, with erasures as ``ON_USER_DELETE`` says.

    Reads no entries, however many there are. Runs in the collector's transaction, after
    ``pre_delete`` signals and before any row is deleted.
    """
    # One for all batches of users. First, since a deletion locks users before their rows.
    if not any(isinstance(queryset, _Release) for queryset in collector.fast_deletes):
        release = _Release(model=entries.model, query=entries.query.chain(), using=using)
        release.collector, release.user_model = collector, field.remote_field.model
        collector.fast_deletes.insert(0, release)


# The collector then does not evaluate ``entries``.
RELEASE_ENTRIES.lazy_sub_objs = True  # type: ignore[attr-defined]


class _Release(models.QuerySet[Any]):
    """Takes the place of a fast delete in the collector."""

    collector: Any
    user_model: Any

    def _raw_delete(self, using: str | None) -> int:
        """Erase or retain the entries of each collected user; returns how many were erased."""
        (release_user,) = _connected
        released = [release_user(user=user, using=using or self.db) for user in self._users()]
        return sum(erasure.entries for erasure in released if erasure and not erasure.pseudonym)

    def _users(self) -> list[Any]:
        """The collected users, in the order of their keys.

        Rows of subclasses are left out: with each its parent's row is collected, which is the user.
        """
        table = self.user_model._meta.concrete_model
        users = {
            user.pk: user
            for model, instances in self.collector.data.items()
            if model._meta.concrete_model is table
            for user in instances
        }
        return [users[key] for key in sorted(users)]
