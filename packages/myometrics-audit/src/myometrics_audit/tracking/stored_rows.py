"""Recorded values of rows as they are in the database, and the description of their changes."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, models

from ..signing.canonical import DETAILS_MAX_BYTES, canonical_json
from .declarations import RecordedModel, recorded_model

MAX_TEXT_LENGTH: Final = 500
SHORTER_LENGTHS: Final = (100, 20)
"""The lengths of the texts of a row with so many that its entry would be too large."""
MAX_SHOWN_KEYS: Final = 100
CHUNK: Final = 500

Value = TypeVar("Value")


@dataclass(frozen=True)
class StoredRow:
    """The recorded columns and relations of a row, and its data subject."""

    values: Mapping[str, Any]
    data_subject: str


def stored_rows(
    model: type[models.Model], keys: Sequence[Any], using: str, *, lock: bool = False
) -> dict[Any, StoredRow]:
    """Read the recorded values from the database, by primary key.

    ``keys`` are those of :func:`stored_key`. Raises ``LookupError`` if the database returns others.
    """
    declared = recorded_model(model)
    path = declared.data_subject
    own_subject = {"_data_subject": models.F(path)} if path and "__" not in path else {}
    queryset = model._base_manager.using(using).filter(pk__in=keys).order_by("pk")
    if lock:
        queryset = queryset.select_for_update()
    rows = {row["pk"]: row for row in queryset.values("pk", *declared.columns, **own_subject)}
    if not rows.keys() <= set(keys):
        raise LookupError(
            f"Primary keys of {model.__name__} differ from those in the database: to_python() of "
            f"{type(model._meta.pk).__name__} must return the value that the database returns"
        )
    # A second query: PostgreSQL can't lock rows of an outer join.
    subjects = subjects_by_path(model, list(rows), path, using) if "__" in path else {}
    relations = {
        name: _related_keys(model, list(rows), name, using) for name in declared.many_to_many
    }
    return {
        key: StoredRow(
            {
                **{column: row[column] for column in declared.columns},
                **{name: related.get(key, []) for name, related in relations.items()},
            },
            _text(row.get("_data_subject", subjects.get(key))),
        )
        for key, row in rows.items()
    }


def stored_key(instance: models.Model) -> Any:
    """Return the primary key as the database returns it: an instance may have it as text."""
    return None if instance.pk is None else instance._meta.pk.to_python(instance.pk)


def subjects_by_path(
    model: type[models.Model], keys: Sequence[Any], path: str, using: str
) -> dict[Any, Any]:
    """Return the data subjects of rows by primary key."""
    queryset = model._base_manager.using(using).filter(pk__in=keys)
    return dict(queryset.values_list("pk", path))


def data_subjects(instances: Sequence[models.Model], path: str) -> list[str]:
    """Return the data subjects of instances of one model; a query only for a path with ``__``."""
    if not path:
        return [""] * len(instances)
    if "__" in path:
        keys = [stored_key(instance) for instance in instances]
        # The database that they come from: a replica may not have new rows yet.
        using = instances[0]._state.db or DEFAULT_DB_ALIAS
        found = subjects_by_path(type(instances[0]), keys, path, using)
        return [_text(found.get(key)) for key in keys]
    if path == "pk":
        return [_text(stored_key(instance)) for instance in instances]
    path = getattr(type(instances[0])._meta.get_field(path), "attname", path)
    return [_text(getattr(instance, path)) for instance in instances]


def describe_change(
    declared: RecordedModel, before: StoredRow | None, after: StoredRow | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the verb and the details of a change; nothing if no recorded value changed.

    Texts are truncated: more, the more of them there are, so that an entry can store all.
    """
    for max_length in (MAX_TEXT_LENGTH, *SHORTER_LENGTHS):
        change = _described(declared, before, after, max_length)
        if change is None or len(canonical_json(change[1])) <= DETAILS_MAX_BYTES:
            break
    if change is not None:
        yield change


def _described(
    declared: RecordedModel, before: StoredRow | None, after: StoredRow | None, max_length: int
) -> tuple[str, dict[str, Any]] | None:
    names = (*declared.columns, *declared.many_to_many)
    if before is None or after is None:
        row = before or after
        if row is None:
            return None
        values = {
            name: {"masked": True}
            if name in declared.masked
            else _shown(declared, name, row, max_length)
            for name in names
        }
        return ("created" if before is None else "deleted"), {"values": values}
    changes = {
        name: {"masked": True}
        if name in declared.masked
        else _shown_change(declared, name, before, after, max_length)
        for name in names
        if before.values[name] != after.values[name]
    }
    return (_update_verb(declared, before, after), {"changes": changes}) if changes else None


def chunks(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """Yield slices of at most 500 values."""
    return (values[first : first + CHUNK] for first in range(0, len(values), CHUNK))


def shown_value(value: Any, max_length: int = MAX_TEXT_LENGTH) -> Any:
    """Convert a value for an entry: JSON, with long text truncated."""
    try:
        value = json.loads(json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False))
    except (TypeError, ValueError):
        value = str(value)
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > max_length:
        return f"{text[:max_length]}… ({len(text)} characters)"
    return value


def shown_keys(keys: Sequence[Any], max_length: int = MAX_TEXT_LENGTH) -> list[Any]:
    """Return the first primary keys, for an entry."""
    return [shown_value(key, max_length) for key in keys[:MAX_SHOWN_KEYS]]


def _update_verb(declared: RecordedModel, before: StoredRow, after: StoredRow) -> str:
    if declared.soft_delete:
        was_deleted = bool(before.values[declared.soft_delete])
        is_deleted = bool(after.values[declared.soft_delete])
        if was_deleted != is_deleted:
            return "soft_deleted" if is_deleted else "restored"
    return "updated"


def _shown(declared: RecordedModel, name: str, row: StoredRow, max_length: int) -> Any:
    value = row.values[name]
    if name not in declared.many_to_many:
        return shown_value(value, max_length)
    if len(value) <= MAX_SHOWN_KEYS:
        return shown_keys(value, max_length)
    return {"keys": shown_keys(value, max_length), "count": len(value)}


def _shown_change(
    declared: RecordedModel, name: str, before: StoredRow, after: StoredRow, max_length: int
) -> dict[str, Any]:
    old, new = before.values[name], after.values[name]
    is_long = name in declared.many_to_many and max(len(old), len(new)) > MAX_SHOWN_KEYS
    if not is_long:
        rows = {"from": before, "to": after}
        return {way: _shown(declared, name, row, max_length) for way, row in rows.items()}
    added, removed = _missing(new, old), _missing(old, new)
    return {
        "from": {"count": len(old)},
        "to": {"count": len(new)},
        "added": {"keys": shown_keys(added, max_length), "count": len(added)},
        "removed": {"keys": shown_keys(removed, max_length), "count": len(removed)},
    }


def _missing(keys: Sequence[Any], other: Sequence[Any]) -> list[Any]:
    known = set(other)
    return [key for key in keys if key not in known]


def _related_keys(
    model: type[models.Model], keys: Sequence[Any], name: str, using: str
) -> dict[Any, list[Any]]:
    queryset = model._base_manager.using(using).filter(pk__in=keys, **{f"{name}__isnull": False})
    related: dict[Any, list[Any]] = {}
    for key, other in queryset.order_by("pk", f"{name}__pk").values_list("pk", name):
        related.setdefault(key, []).append(other)
    return related


def _text(value: Any) -> str:
    return "" if value is None else str(value)
