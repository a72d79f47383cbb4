"""Comparing rows before and after a block of code, and recording the differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import models, router

from myometrics_core.users import existing_user_ids

from ..audit import (
    FROM_RECORDING,
    ActorOrUnset,
    AnyRequest,
    action_name,
    actor_id,
    entry,
    record_many,
    resource_of,
)
from .declarations import is_recorded, recorded_model
from .deletion_effects import rows_affected_by_deletion
from .stored_rows import StoredRow, chunks, describe_change, stored_key, stored_rows

ModelClass = type[models.Model]
Change = tuple[Any, StoredRow | None, StoredRow | None]
"""Primary key, and the recorded values before and after."""


@dataclass(frozen=True)
class Attribution:
    """Who acts and why; ``data_subject`` replaces that of the rows unless it is empty."""

    actor: ActorOrUnset = FROM_RECORDING
    request: AnyRequest | None = None
    purpose: str = ""
    legal_basis: str = ""
    data_subject: str = ""

    def without_deleted_actor(self) -> Attribution:
        """Return it without an actor who doesn't exist any more."""
        key = actor_id(self.actor)
        exists = key is not None and existing_user_ids([key])
        return self if exists else replace(self, actor=None)


class ChangeTracker:
    """Remembers rows, and records later how they have changed.

    Use it in one transaction: remembered rows are locked. Recorded values of all remembered rows
    are in memory.
    """

    def __init__(
        self,
        attribution: Attribution,
        subjects_of: Callable[[Sequence[models.Model]], list[str]] | None = None,
    ) -> None:
        self.attribution = attribution
        self._subjects_of = subjects_of
        self._before: dict[tuple[str, ModelClass], dict[Any, StoredRow | None]] = {}

    def watch(self, instances: Iterable[models.Model]) -> None:
        """Remember rows that may be changed or deleted; call it before the change.

        Rows that a deletion cascades to are not included: see :meth:`watch_deletion`. Raises
        ``LookupError`` if a model is not recorded.
        """
        for (using, model), group in _by_model(instances).items():
            recorded_model(model)
            self._remember(using, model, [stored_key(instance) for instance in group])

    def watch_deletion(self, instances: Iterable[models.Model]) -> None:
        """Remember rows that are about to be deleted, and all recorded rows that this changes."""
        for (using, model), group in _by_model(instances).items():
            recorded_model(model)
            for part in chunks(group):
                affected = rows_affected_by_deletion(part, using, wanted=is_recorded)
                for related, keys in affected.items():
                    if is_recorded(related):
                        self._remember(using, related, list(keys))

    def add(self, instances: Iterable[models.Model]) -> None:
        """Add saved rows; those that are not remembered are recorded as created.

        Raises ``ValueError`` for a row without a primary key.
        """
        for (using, model), group in _by_model(instances).items():
            recorded_model(model)
            known = self._before.setdefault((using, model), {})
            for instance in group:
                key = stored_key(instance)
                if key is None:
                    raise ValueError(f"Save the {model.__name__} before add()")
                known.setdefault(key, None)

    def record(self) -> set[tuple[ModelClass, Any]]:
        """Record the changes; return the model and primary key of each changed row."""
        changed: set[tuple[ModelClass, Any]] = set()
        for (using, model), rows in self._before.items():
            for keys in chunks(list(rows)):
                after = self._read(using, model, keys)
                changes = [(key, rows[key], after.get(key)) for key in keys]
                attribution = self.attribution
                if any(row is None for _, _, row in changes):
                    attribution = attribution.without_deleted_actor()
                changed |= record_changes(model, changes, attribution)
        self._before.clear()
        return changed

    def _remember(self, using: str, model: ModelClass, keys: Sequence[Any]) -> None:
        known = self._before.setdefault((using, model), {})
        new = [key for key in keys if key is not None and key not in known]
        for part in chunks(new):
            known.update(self._read(using, model, part, lock=True))

    def _read(
        self, using: str, model: ModelClass, keys: Sequence[Any], *, lock: bool = False
    ) -> dict[Any, StoredRow]:
        rows = stored_rows(model, keys, using, lock=lock)
        if self._subjects_of is None or not rows:
            return rows
        # The caller's instances may have values that are not saved yet, or not read again.
        instances = list(model._base_manager.using(using).filter(pk__in=list(rows)))
        subjects = self._subjects_of(instances) if instances else []
        for instance, subject in zip(instances, subjects, strict=True):
            if subject:
                rows[instance.pk] = replace(rows[instance.pk], data_subject=subject)
        return rows


def record_changes(
    model: ModelClass,
    changes: Iterable[Change],
    attribution: Attribution,
) -> set[tuple[ModelClass, Any]]:
    """Record changes of rows; return the model and primary key of those that have changed.

    A change that moves a row to another data subject is recorded for both.
    """
    declared = recorded_model(model)
    changed: set[tuple[ModelClass, Any]] = set()
    entries = []
    for key, before, after in changes:
        for verb, details in describe_change(declared, before, after):
            changed.add((model, key))
            entries += [
                entry(
                    actor=attribution.actor,
                    action=action_name(str(model._meta.model_name), verb),
                    resource=resource_of(model, key),
                    details=details,
                    request=attribution.request,
                    data_subject=subject,
                    purpose=attribution.purpose,
                    legal_basis=attribution.legal_basis,
                )
                for subject in _subjects_of_change(before, after, attribution)
            ]
    record_many(entries)
    return changed


def _subjects_of_change(
    before: StoredRow | None, after: StoredRow | None, attribution: Attribution
) -> list[str]:
    if attribution.data_subject:
        return [attribution.data_subject]
    found = [row.data_subject for row in (before, after) if row is not None and row.data_subject]
    return list(dict.fromkeys(found)) or [""]


def _by_model(
    instances: Iterable[models.Model],
) -> dict[tuple[str, ModelClass], list[models.Model]]:
    groups: dict[tuple[str, ModelClass], list[models.Model]] = {}
    for instance in instances:
        using = router.db_for_write(type(instance), instance=instance)
        groups.setdefault((using, type(instance)), []).append(instance)
    return groups
