"""Protection of the last active administrator, for any rule in ``IS_ADMINISTRATOR``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.db import models, transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from myometrics_auth.selectors import LIKELY_ADMINISTRATOR
from myometrics_core.api import Conflict
from myometrics_core.db import atomic_write
from myometrics_core.users import is_administrator

__all__ = ["administrator_kept"]


@contextmanager
def administrator_kept(user_id: Any) -> Iterator[None]:
    """Open a transaction for changing or deleting a user, except the last administrator.

    The rule is evaluated before and after. Raises ``Conflict`` and rolls back if no active
    administrator would be left. The locks don't block writes of rows that refer to the locked
    users.
    """
    with atomic_write():
        is_last = _lock_with_another(user_id)
        yield
        if is_last and not _administers(user_id):
            raise Conflict(_("This is the last active administrator."), "last_administrator")


def _lock_with_another(user_id: Any) -> bool:
    # Lock an administrator together with another one, in key order: if two demote each other, the
    # second one waits and then is the last. Returns whether it is the last.
    while True:
        was_administrator = _administers(user_id)
        other = _another_than(user_id) if was_administrator else None
        keys = [user_id] if other is None else sorted([user_id, other])
        savepoint = transaction.savepoint()
        for key in keys:
            list(_users().select_for_update(no_key=True).filter(pk=key).values_list("pk"))
        is_other_left = other is None or _administers(other)
        if is_other_left and _administers(user_id) == was_administrator:
            transaction.savepoint_commit(savepoint)
            return was_administrator and other is None
        # Changed while waiting. Release the locks: a third lock would be out of order.
        transaction.savepoint_rollback(savepoint)


def _another_than(user_id: Any) -> Any | None:
    # Likely administrators first: a site's rule may cost a query per user.
    others = _users().filter(is_active=True).exclude(pk=user_id).order_by("pk")
    for candidates in (others.filter(LIKELY_ADMINISTRATOR), others.exclude(LIKELY_ADMINISTRATOR)):
        for user in candidates.iterator(chunk_size=500):
            if is_administrator(user):
                return user.pk
    return None


def _administers(user_id: Any) -> bool:
    return is_administrator(_users().filter(pk=user_id).first())


def _users() -> QuerySet[Any]:
    # Not the site's manager: it may filter rows.
    return models.QuerySet(get_user_model())
