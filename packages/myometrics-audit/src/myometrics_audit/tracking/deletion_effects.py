"""The rows that a deletion deletes or changes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from django.db import models

from .stored_rows import stored_key

CHUNK: Final = 500
# on_delete handlers that keep the referring rows. DB_… are new in Django 6.1.
KEEPING: Final = tuple(
    getattr(models, name)
    for name in (
        *("SET_NULL", "SET_DEFAULT", "DO_NOTHING", "PROTECT"),
        *("DB_SET_NULL", "DB_SET_DEFAULT"),
    )
    if hasattr(models, name)
)

ModelClass = type[models.Model]
Keys = dict[ModelClass, dict[Any, None]]
"""Primary keys by model, in the order of discovery."""


def rows_affected_by_deletion(
    instances: Sequence[models.Model], using: str, *, wanted: Callable[[ModelClass], bool]
) -> Keys:
    """Return the rows that deleting ``instances`` may delete or change, including their own.

    The instances are of one model.

    Follows foreign keys, both those cascaded by Django and those cascaded by the database
    (``DB_CASCADE``), and generic relations, if they lead to ``wanted`` models. The result may
    contain rows that the deletion doesn't change. Call it in the transaction that deletes:
    referenced rows are locked, so that no references are added.
    """
    own_model, own_keys = type(instances[0]), [stored_key(instance) for instance in instances]
    found: Keys = {}
    followed: dict[ModelClass, set[Any]] = defaultdict(set)
    pending: list[tuple[ModelClass, list[Any]]] = [(own_model, own_keys)]
    leads = _leads_to(wanted)
    while pending:
        model, keys = pending.pop()
        found.setdefault(_concrete(model), {}).update(dict.fromkeys(keys))
        new = [key for key in keys if key not in followed[model]]
        followed[model].update(new)
        for related, referring, follow in _referring(model, new, using, leads):
            if follow:
                pending.append((related, referring))
            else:
                found.setdefault(_concrete(related), {}).update(dict.fromkeys(referring))
    if own_model is not _concrete(own_model):
        # The proxy may be wanted without its concrete model.
        for key in own_keys:
            del found[_concrete(own_model)][key]
        return {own_model: dict.fromkeys(own_keys), **found}
    return found


def _leads_to(wanted: Callable[[ModelClass], bool]) -> Callable[[ModelClass], bool]:
    """Return a function: can a deletion in a model reach a wanted model?"""

    @cache
    def leads(model: ModelClass) -> bool:
        seen, pending = {model}, [model]
        while pending:
            reached = pending.pop()
            if wanted(reached):
                return True
            new = set(_referring_models(reached)) - seen
            seen |= new
            pending.extend(new)
        return False

    return leads


def _referring_models(model: ModelClass) -> Iterator[ModelClass]:
    for field, follow in _foreign_keys_to(model):
        if follow:
            yield field.model
    for generic in _generic_relations(model):
        yield generic.related_model


def _referring(
    model: ModelClass, keys: list[Any], using: str, leads: Callable[[ModelClass], bool]
) -> Iterator[tuple[ModelClass, list[Any], bool]]:
    foreign_keys = [
        (field, follow)
        for field, follow in _foreign_keys_to(model)
        if leads(field.model if follow else _concrete(field.model))
    ]
    generics = [generic for generic in _generic_relations(model) if leads(generic.related_model)]
    for chunk in _chunks(keys) if foreign_keys or generics else ():
        referred = _rows(model, using).filter(pk__in=chunk).select_for_update()
        owners = list(referred.order_by("pk"))
        for field, follow in foreign_keys:
            rows = _rows(field.model, using).filter(**{f"{field.name}__in": owners})
            yield field.model, list(rows.order_by("pk").values_list("pk", flat=True)), follow
        for generic in generics:
            rows = generic.bulk_related_objects(owners, using)
            yield rows.model, list(rows.values_list("pk", flat=True)), True


def _rows(model: ModelClass, using: str) -> models.QuerySet[Any]:
    return model._base_manager.using(using)


def _generic_relations(model: ModelClass) -> list[Any]:
    fields: Iterable[Any] = model._meta.private_fields
    return [field for field in fields if hasattr(field, "bulk_related_objects")]


def _foreign_keys_to(model: ModelClass) -> Iterator[tuple[Any, bool]]:
    for relation in model._meta.get_fields(include_hidden=True):
        if not (relation.auto_created and not relation.concrete):
            continue
        if relation.one_to_many or relation.one_to_one:
            on_delete = relation.on_delete  # type: ignore[union-attr]
            # models.SET(…) returns a new handler each time, recognised by deconstruct().
            keeps = on_delete in KEEPING or hasattr(on_delete, "deconstruct")
            yield relation.field, not keeps  # type: ignore[union-attr]


def _concrete(model: ModelClass) -> ModelClass:
    return model._meta.concrete_model or model


def _chunks(keys: list[Any]) -> Iterable[list[Any]]:
    return (keys[first : first + CHUNK] for first in range(0, len(keys), CHUNK))
