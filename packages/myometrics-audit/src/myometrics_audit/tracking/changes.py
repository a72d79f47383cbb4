"""Recording changes of a site's models: the actor, the fields, and their old and new values.

:func:`recorded` declares the recorded fields of a model. Code that changes rows calls the
functions here with the actor, instead of ``save()``, ``delete()``, ``bulk_create()`` and
``update()``. There are no signal receivers, and no global that holds the current user.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, router

from myometrics_core.db import atomic_write
from myometrics_core.events import register_reserved_actions
from myometrics_core.users import existing_user_ids

from ..audit import Actor, AnyRequest, actor_id, entry, record_many
from ..log.models import MAX_LENGTHS
from .deletion_effects import rows_affected_by_deletion

__all__ = [
    "recorded",
    "recorded_bulk_create",
    "recorded_delete",
    "recorded_save",
    "recorded_update",
]

M = TypeVar("M", bound=models.Model)
Row = Mapping[str, Any]
"""The recorded columns of a row, by attribute name."""
ALWAYS_MASKED = ("password", "secret", "token", "api_key")
MAX_TEXT_LENGTH = 500
CHUNK = 500
VERBS = ("created", "updated", "deleted")


@dataclass(frozen=True)
class _Recording:
    """The recorded columns of a model by attribute name, and those without values in entries."""

    columns: tuple[str, ...]
    masked: frozenset[str]


_recordings: dict[type[models.Model], _Recording] = {}


def recorded(
    *, fields: Sequence[str] | None = None, masked: Sequence[str] = ()
) -> Callable[[type[M]], type[M]]:
    """Class decorator: record changes of this model.

    ``fields``: names of the recorded fields (default: all columns). ``masked``: fields whose
    changes are recorded without values. Fields with ``password``, ``secret``, ``token`` or
    ``api_key`` in their name, and binary fields, are always masked. Clients of the API can't post
    the actions ``<model>_created``, ``<model>_updated`` and ``<model>_deleted``.
    Raises ``ValueError`` for an unknown field.
    """

    def decorate(model: type[M]) -> type[M]:
        known = {field.name: field for field in model._meta.concrete_fields}
        unknown = {*(fields or ()), *masked} - set(known)
        if unknown:
            raise ValueError(f"{model.__name__} has no fields {sorted(unknown)}")
        chosen = [known[name] for name in fields] if fields is not None else list(known.values())
        hidden = {field.attname for field in chosen if field.name in masked or _is_secret(field)}
        _recordings[model] = _Recording(tuple(f.attname for f in chosen), frozenset(hidden))
        _reserve_actions(model)
        return model

    return decorate


def reserve_recorded_actions() -> None:
    """Reserve the actions of all recorded models and their subclasses; call it in ``ready()``."""
    for model in list(_recordings):
        _reserve_actions(model)


def recorded_save(
    instance: models.Model, *, actor: Actor, request: AnyRequest | None = None, **save: Any
) -> None:
    """``instance.save(**save)``, recorded as ``<model>_created`` or ``<model>_updated``.

    A save that changes no recorded column is not recorded. ``actor`` and ``request`` are those of
    ``audit.record``. Saving and recording are one transaction.
    """
    model = type(instance)
    using = save.get("using") or router.db_for_write(model, instance=instance)
    with atomic_write(using):
        before = _stored(model, [instance.pk], using, lock=True).get(instance.pk)
        instance.save(**save)
        after = _stored(model, [instance.pk], using)[instance.pk]
        _record(model, [(instance.pk, before, after)], actor, request)


def recorded_delete(
    instance: models.Model, *, actor: Actor, request: AnyRequest | None = None
) -> None:
    """``instance.delete()``, recorded as ``<model>_deleted`` with the deleted values.

    Each row of a recorded model that is also deleted, or changed (``SET_NULL``), gets its own
    entry, whether Django or the database changes it. If the deletion includes the actor, the
    entries have no user. The recorded values of all these rows are in memory until their entries
    are written, 500 at a time. Raises ``LookupError`` if the model of ``instance`` is not recorded.
    """
    _recording(type(instance))
    using = router.db_for_write(type(instance), instance=instance)
    with atomic_write(using):
        affected = rows_affected_by_deletion(instance, using, wanted=_is_recorded)
        before = _locked_rows(affected, using)
        instance.delete()
        actor = _unless_deleted(actor)
        for model, rows in before.items():
            for chunk in _chunks(list(rows)):
                after = _stored(model, chunk, using)
                changes = ((key, rows.pop(key), after.get(key)) for key in chunk)
                _record(model, changes, actor, request)


def recorded_bulk_create(
    model: type[M],
    instances: Iterable[M],
    *,
    actor: Actor,
    request: AnyRequest | None = None,
    **bulk: Any,
) -> list[M]:
    """``model.objects.bulk_create(instances, **bulk)``, with one entry for each new row.

    Raises ``ValueError`` for ``ignore_conflicts`` and ``update_conflicts``: the database doesn't
    return the conflicting rows.
    """
    if bulk.get("ignore_conflicts") or bulk.get("update_conflicts"):
        raise ValueError(
            "Conflicting rows can't be recorded: create new rows only, and change existing ones "
            "by recorded_update or recorded_save"
        )
    using = router.db_for_write(model)
    with atomic_write(using):
        created = model._default_manager.bulk_create(instances, **bulk)
        for chunk in _chunks([instance.pk for instance in created]):
            rows = _stored(model, chunk, using)
            _record(model, ((key, None, row) for key, row in rows.items()), actor, request)
    return created


def recorded_update(
    queryset: models.QuerySet[Any],
    *,
    actor: Actor,
    request: AnyRequest | None = None,
    **values: Any,
) -> int:
    """``queryset.update(**values)``, with one entry for each row that changed.

    Returns the number of matched rows. Runs in one transaction, in chunks of 500 rows. Rows that
    stop matching ``queryset`` before they are locked are not changed.
    """
    model = queryset.model
    using = queryset.select_for_update().db  # the write database
    with atomic_write(using):
        keys = _locked_keys(queryset.using(using))
        for chunk in _chunks(keys):
            before = _stored(model, chunk, using)
            model._base_manager.using(using).filter(pk__in=chunk).update(**values)
            after = _stored(model, chunk, using)
            changes = ((key, before[key], row) for key, row in after.items())
            _record(model, changes, actor, request)
    return len(keys)


def _record(
    model: type[models.Model],
    changes: Iterable[tuple[Any, Row | None, Row | None]],
    actor: Actor,
    request: AnyRequest | None,
) -> None:
    """Record changes of rows: primary key, recorded columns before and after."""
    recording = _recording(model)
    resource_type = model._meta.label_lower[-MAX_LENGTHS["resource_type"] :]
    record_many(
        entry(
            actor=actor,
            action=_action(model, verb),
            resource=(resource_type, str(key)[: MAX_LENGTHS["resource_id"]]),
            details=details,
            request=request,
        )
        for key, before, after in changes
        for verb, details in _described(recording, before, after)
    )


def _described(
    recording: _Recording, before: Row | None, after: Row | None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the verb and the details of a change; nothing if no recorded column changed."""
    if before is None or after is None:
        row = before or after or {}
        values = {
            column: {"masked": True} if column in recording.masked else _shown(row[column])
            for column in recording.columns
        }
        yield ("created" if before is None else "deleted"), {"values": values}
        return
    changes = {
        column: {"masked": True}
        if column in recording.masked
        else {"from": _shown(before[column]), "to": _shown(after[column])}
        for column in recording.columns
        if before[column] != after[column]
    }
    if changes:
        yield "updated", {"changes": changes}


def _locked_rows(
    affected: Mapping[type[models.Model], Iterable[Any]], using: str
) -> dict[type[models.Model], dict[Any, Row]]:
    """Lock the rows of recorded models; return their recorded columns."""
    return {
        model: {
            key: row
            for chunk in _chunks(list(keys))
            for key, row in _stored(model, chunk, using, lock=True).items()
        }
        for model, keys in affected.items()
        if _is_recorded(model)
    }


def _unless_deleted(actor: Actor) -> Actor:
    key = actor_id(actor)
    return actor if key is not None and existing_user_ids([key]) else None


def _reserve_actions(model: type[models.Model]) -> None:
    register_reserved_actions(*(_action(model, verb) for verb in VERBS))
    for subclass in model.__subclasses__():
        _reserve_actions(subclass)


def _action(model: type[models.Model], verb: str) -> str:
    return f"{model._meta.model_name}_{verb}"[-MAX_LENGTHS["action"] :]


def _locked_keys(queryset: models.QuerySet[Any]) -> list[Any]:
    """Lock the rows of ``queryset`` in the order of their primary keys; return the keys."""
    rows = queryset.order_by("pk").values_list("pk", flat=True)
    # A query with joins may return a row more than once.
    found = list(dict.fromkeys(rows))
    for chunk in _chunks(found):
        _stored(queryset.model, chunk, queryset.db, lock=True)
    # Query again after locking all and before changing any: the filter may depend on other rows.
    still = (key for chunk in _chunks(found) for key in rows.filter(pk__in=chunk))
    return list(dict.fromkeys(still))


def _chunks(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (keys[first : first + CHUNK] for first in range(0, len(keys), CHUNK))


def _is_secret(field: models.Field[Any, Any]) -> bool:
    name = field.name.lower()
    return isinstance(field, models.BinaryField) or any(word in name for word in ALWAYS_MASKED)


def _is_recorded(model: type[models.Model]) -> bool:
    return any(ancestor in _recordings for ancestor in model.__mro__)


def _recording(model: type[models.Model]) -> _Recording:
    for ancestor in model.__mro__:
        if ancestor in _recordings:
            return _recordings[ancestor]
    raise LookupError(f"{model.__name__} isn't decorated with @recorded()")


def _stored(
    model: type[models.Model], keys: Sequence[Any], using: str, *, lock: bool = False
) -> dict[Any, Row]:
    """Read the recorded columns from the database, by primary key."""
    columns = _recording(model).columns
    rows = model._base_manager.using(using).filter(pk__in=keys).order_by("pk")
    if lock:
        rows = rows.select_for_update()
    return {row["pk"]: row for row in rows.values("pk", *columns)}


def _shown(value: Any) -> Any:
    """Convert a value for an entry: JSON, with long text truncated."""
    try:
        value = json.loads(json.dumps(value, cls=DjangoJSONEncoder, allow_nan=False))
    except (TypeError, ValueError):
        value = str(value)
    text = value if isinstance(value, str) else json.dumps(value)
    if len(text) > MAX_TEXT_LENGTH:
        return f"{text[:MAX_TEXT_LENGTH]}… ({len(text)} characters)"
    return value
