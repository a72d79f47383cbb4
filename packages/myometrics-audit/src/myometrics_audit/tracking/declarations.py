"""The declaration of recorded models: their fields, masks, data subject and soft deletion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist
from django.db import models

from myometrics_core.events import register_reserved_actions

from ..audit import action_name

M = TypeVar("M", bound=models.Model)
ALWAYS_MASKED = ("password", "secret", "token", "api_key")
VERBS = ("created", "updated", "deleted")
SOFT_DELETE_VERBS = ("soft_deleted", "restored")


@dataclass(frozen=True)
class RecordedModel:
    """What is recorded of a model.

    Columns and masked fields are attribute names. ``data_subject`` is a field path or empty,
    ``soft_delete`` a column or empty.
    """

    columns: tuple[str, ...]
    many_to_many: tuple[str, ...]
    masked: frozenset[str]
    data_subject: str
    soft_delete: str

    @property
    def verbs(self) -> tuple[str, ...]:
        """The verbs of the actions that change this model."""
        return VERBS + (SOFT_DELETE_VERBS if self.soft_delete else ())


_recorded_models: dict[type[models.Model], RecordedModel] = {}


def recorded(
    *,
    fields: Sequence[str] | None = None,
    masked: Sequence[str] = (),
    many_to_many: Sequence[str] = (),
    data_subject: str = "",
    soft_delete: str = "",
) -> Callable[[type[M]], type[M]]:
    """Class decorator: record changes of this model.

    ``fields``: names of the recorded fields (default: all columns). ``masked``: fields whose
    changes are recorded without values. Fields with ``password``, ``secret``, ``token`` or
    ``api_key`` in their name, binary fields, and fields that a recorded base masks are always
    masked. ``many_to_many``: relations whose keys are recorded, with one more query each.
    ``data_subject``: the field with your id of the patient or other person that a row is about,
    or a path to it (``"visit__patient_id"``). ``soft_delete``: the field that is empty or false
    unless the row is deleted; its changes are recorded as ``<model>_soft_deleted`` and
    ``<model>_restored``. Clients of the API can't post these actions, nor ``<model>_created``,
    ``<model>_updated`` and ``<model>_deleted``. Raises ``ValueError`` for an unknown field.
    """

    def decorate(model: type[M]) -> type[M]:
        columns = {field.name: field for field in model._meta.concrete_fields}
        relations = {field.name: field for field in model._meta.many_to_many}
        subject = data_subject.partition("__")[0]
        attributes = {"pk", *columns, *(field.attname for field in columns.values())}
        _refuse_unknown(model, {*(fields or ()), soft_delete} - {*columns, ""})
        _refuse_unknown(model, {*masked} - {*columns, *relations})
        _refuse_unknown(model, {*many_to_many} - {*relations})
        _refuse_unknown(model, {subject} - {*attributes, ""})
        chosen = list(columns) if fields is None else list(dict.fromkeys(fields))
        if soft_delete and soft_delete not in chosen:
            chosen.append(soft_delete)
        hidden = {columns[name].attname for name in chosen if _is_secret(columns[name])}
        hidden |= {columns[name].attname if name in columns else name for name in masked}
        hidden |= {name for name in many_to_many if _is_secret_name(name)}
        # A subclass may have its own declaration; it masks what its bases mask.
        hidden |= {name for one in _declared_bases(model) for name in _recorded_models[one].masked}
        _recorded_models[model] = RecordedModel(
            columns=tuple(columns[name].attname for name in chosen),
            many_to_many=tuple(many_to_many),
            masked=frozenset(hidden),
            data_subject=data_subject,
            soft_delete=columns[soft_delete].attname if soft_delete else "",
        )
        _reserve_actions(model)
        return model

    return decorate


def reserve_recorded_actions() -> None:
    """Reserve the actions of all recorded models and their subclasses; call it in ``ready()``."""
    for model in list(_recorded_models):
        _reserve_actions(model)


def is_recorded(model: type[models.Model]) -> bool:
    """Return whether the model or one of its bases is decorated with :func:`recorded`."""
    return any(ancestor in _recorded_models for ancestor in model.__mro__)


def recorded_model(model: type[models.Model]) -> RecordedModel:
    """Return what is recorded of a model; ``LookupError`` if nothing is."""
    for ancestor in model.__mro__:
        if ancestor in _recorded_models:
            return _recorded_models[ancestor]
    raise LookupError(f"{model.__name__} isn't decorated with @recorded()")


def is_masked(label: str, name: str) -> bool:
    """Return whether entries about the model ``label`` never have values of the field ``name``."""
    try:
        model = apps.get_model(label)
        field = model._meta.get_field(name)
    except (LookupError, ValueError, FieldDoesNotExist):
        return _is_secret_name(name)
    if not isinstance(field, models.Field):
        return _is_secret_name(name)
    declared = (_recorded_models[one] for one in _declared_bases(model))
    return _is_secret(field) or any(field.attname in one.masked for one in declared)


def _declared_bases(model: type[models.Model]) -> list[type[models.Model]]:
    """Return the model and its bases, as far as they are declared."""
    return [one for one in model.__mro__ if one in _recorded_models]


def _refuse_unknown(model: type[models.Model], names: set[str]) -> None:
    if names:
        raise ValueError(f"{model.__name__} has no fields {sorted(names)}")


def _reserve_actions(model: type[models.Model]) -> None:
    name = str(model._meta.model_name)
    register_reserved_actions(*(action_name(name, verb) for verb in recorded_model(model).verbs))
    for subclass in model.__subclasses__():
        _reserve_actions(subclass)


def _is_secret(field: models.Field[Any, Any]) -> bool:
    return isinstance(field, models.BinaryField) or _is_secret_name(field.name)


def _is_secret_name(name: str) -> bool:
    return any(word in name.lower() for word in ALWAYS_MASKED)
