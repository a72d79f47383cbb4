"""Which rows a deletion takes along or changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, Final

from django.db import models

__all__ = ["rows_affected_by_deletion"]

CHUNK: Final = 500
# on_delete handlers that keep the rows that refer to a deleted one.
KEEPING: Final = (models.SET_NULL, models.SET_DEFAULT, models.DO_NOTHING, models.PROTECT)

ModelClass = type[models.Model]
Keys = dict[ModelClass, dict[Any, None]]
"""Primary keys by model, in the order in which they were found."""


def rows_affected_by_deletion(
    instance: models.Model, using: str, *, wanted: Callable[[ModelClass], bool]
) -> Keys:
    """Return the rows that ``instance.delete()`` may delete or change, its own among them.

    Follows foreign keys whatever deletes by them, Django or the database (``DB_CASCADE``), and
    generic relations, as far as they lead to models that are ``wanted``. A row that is named here
    may still come through unchanged.
    """
    found: Keys = {}
    waiting = [(_concrete(type(instance)), [instance.pk])]
    leads = _leads_to(wanted)
    while waiting:
        model, keys = waiting.pop()
        known = found.setdefault(model, {})
        new = [key for key in keys if key not in known]
        known.update(dict.fromkeys(new))
        for related, referring, follow in _referring(model, new, using, leads):
            if follow:
                waiting.append((related, referring))
            else:
                found.setdefault(related, {}).update(dict.fromkeys(referring))
    return found


def _leads_to(wanted: Callable[[ModelClass], bool]) -> Callable[[ModelClass], bool]:
    """Return a function that says whether a deletion in a model can reach a wanted one."""

    @cache
    def leads(model: ModelClass) -> bool:
        seen, waiting = {model}, [model]
        while waiting:
            reached = waiting.pop()
            if wanted(reached):
                return True
            new = set(_referring_models(reached)) - seen
            seen |= new
            waiting.extend(new)
        return False

    return leads


def _referring_models(model: ModelClass) -> Iterator[ModelClass]:
    for field, follow in _foreign_keys_to(model):
        if follow:
            yield _concrete(field.model)
    for generic in _generic_relations(model):
        yield _concrete(generic.related_model)


def _referring(
    model: ModelClass, keys: list[Any], using: str, leads: Callable[[ModelClass], bool]
) -> Iterator[tuple[ModelClass, list[Any], bool]]:
    for field, follow in _foreign_keys_to(model):
        if not leads(_concrete(field.model)):
            continue
        for chunk in _chunks(keys):
            rows = field.model._base_manager.using(using).filter(**{f"{field.name}__pk__in": chunk})
            referring = list(rows.order_by("pk").values_list("pk", flat=True))
            yield _concrete(field.model), referring, follow
    for generic in _generic_relations(model):
        for chunk in _chunks(keys) if leads(_concrete(generic.related_model)) else ():
            owners = model._base_manager.using(using).filter(pk__in=chunk)
            rows = generic.bulk_related_objects(list(owners), using)
            yield _concrete(rows.model), list(rows.values_list("pk", flat=True)), True


def _generic_relations(model: ModelClass) -> list[Any]:
    fields: Iterable[Any] = model._meta.private_fields
    return [field for field in fields if hasattr(field, "bulk_related_objects")]


def _foreign_keys_to(model: ModelClass) -> Iterator[tuple[Any, bool]]:
    for relation in model._meta.get_fields(include_hidden=True):
        if not (relation.auto_created and not relation.concrete):
            continue
        if relation.one_to_many or relation.one_to_one:
            on_delete = relation.on_delete  # type: ignore[union-attr]
            # models.SET(…) makes a handler of its own each time, which can be deconstructed.
            keeps = on_delete in KEEPING or hasattr(on_delete, "deconstruct")
            yield relation.field, not keeps  # type: ignore[union-attr]


def _concrete(model: ModelClass) -> ModelClass:
    return model._meta.concrete_model or model


def _chunks(keys: list[Any]) -> Iterable[list[Any]]:
    return (keys[first : first + CHUNK] for first in range(0, len(keys), CHUNK))
