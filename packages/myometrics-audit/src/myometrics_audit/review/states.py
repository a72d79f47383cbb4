"""The states of rules between batches: in memory, or in rows."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.contrib.auth import get_user_model

from myometrics_core.users import account_pseudonyms

from ..log.bulk_values import one_of
from .models import RuleState

MIN_PRUNED = 10_000
BATCH_SIZE = 1000
State = dict[str, Any]


class States:
    """States in memory, for the examination of a period. Bounded by the number of live keys."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], State] = {}
        self._expiry: dict[tuple[str, str], datetime] = {}
        self._prune_at = MIN_PRUNED

    def load(self, rule: str, keys: set[str], *, expires_at: datetime) -> dict[str, State]:
        """Return the states of ``rule`` under ``keys``, empty ones if they are new."""
        for key in keys:
            self._values.setdefault((rule, key), {})
            self._expiry[rule, key] = expires_at
        return {key: self._values[rule, key] for key in keys}

    def prune(self, now: datetime) -> None:
        """Remove expired and empty states, if there are many."""
        if len(self._values) < self._prune_at:
            return
        for place, value in list(self._values.items()):
            if not value or self._expiry[place] < now:
                del self._values[place], self._expiry[place]
        self._prune_at = max(MIN_PRUNED, 2 * len(self._values))


class StoredStates(States):
    """States in rows, for one batch. ``save`` belongs to the transaction that ends the batch."""

    def __init__(self, using: str) -> None:
        super().__init__()
        self._using = using
        self._stored: set[tuple[str, str]] = set()

    def load(self, rule: str, keys: set[str], *, expires_at: datetime) -> dict[str, State]:
        condition, values = one_of("key", sorted(keys), self._using)
        rows = RuleState.objects.using(self._using).filter(rule=rule)
        rows = rows.extra(where=[condition], params=values)  # noqa: S610
        for key, value in rows.values_list("key", "value"):
            self._values[rule, key] = value
            self._stored.add((rule, key))
        return super().load(rule, keys, expires_at=expires_at)

    def save(self, *, without: Collection[str] = ()) -> None:
        """Write the states that are not empty, and delete those that became empty.

        States under the keys ``without`` are not written: of users who are deleted.
        """
        rows = [
            RuleState(rule=rule, key=key, value=value, expires_at=self._expiry[rule, key])
            for (rule, key), value in sorted(self._values.items(), key=lambda item: item[0])
            if value and key not in without
        ]
        states = RuleState.objects.using(self._using)
        states.bulk_create(
            rows,
            batch_size=BATCH_SIZE,
            update_conflicts=True,
            unique_fields=["rule", "key"],
            update_fields=["value", "expires_at"],
        )
        emptied = [place for place in self._stored if not self._values[place]]
        for rule in {rule for rule, _ in emptied}:
            states.filter(
                rule=rule, key__in=[key for name, key in emptied if name == rule]
            ).delete()


def delete_expired_states(now: datetime) -> None:
    """Delete the states that expired at ``now``, in the time of the entries."""
    RuleState.objects.filter(expires_at__lt=now).delete()


def delete_user_states(user: Any, using: str) -> None:
    """Delete what rules remember of a user who is being deleted, also by the address."""
    email = getattr(user, get_user_model().get_email_field_name(), None)
    keys = [str(user.pk), *(account_pseudonyms(email) if email else ())]
    RuleState.objects.using(using).filter(key__in=keys).delete()
