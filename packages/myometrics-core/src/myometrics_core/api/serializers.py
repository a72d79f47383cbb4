"""Serializers that build only the fields they need.

A serializer builds its fields for each request, because DRF's messages keep the language of their
first use. Building a field costs several times as much as using it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from rest_framework import serializers
from rest_framework.fields import empty

from ..times import utc_text
from ..users.user_model import user_id_json
from .fields import UserIdField, UtcDateTimeField

if TYPE_CHECKING:
    Field = serializers.Field[Any, Any, Any, Any]  # DRF before 3.15: not generic at run time


class RequestSerializer(serializers.Serializer[Any]):
    """A body or query; builds only the fields that its data contains, and the required ones.

    Without data, ``fields`` contains all declared fields.
    """

    def get_fields(self) -> dict[str, Field]:
        data = getattr(self, "initial_data", None)
        if not isinstance(data, Mapping):
            return super().get_fields()
        return {
            name: copy.deepcopy(field)
            for name, field in _declared_fields(type(self)).items()
            if name in data or not (self.partial or (not field.required and field.default is empty))
        }


class AttributesSerializer(serializers.Serializer[Any]):
    """A response that copies attributes: the fields define the schema, :meth:`read` the values.

    ``UserIdField`` and ``UtcDateTimeField`` convert their values; the values of all other fields
    must be JSON types (string, number, boolean).
    """

    @classmethod
    def read(cls, instance: Any) -> dict[str, Any]:
        """Return a serializer's ``.data`` for ``instance``, without building fields."""
        return {
            name: get(instance) if convert is None else convert(get(instance))
            for name, get, convert in _readers(cls)
        }


@lru_cache(maxsize=64)
def _declared_fields(serializer_class: type[RequestSerializer]) -> Mapping[str, Field]:
    """Copy the fields before use, as DRF does: requests must not share a field."""
    return dict(serializer_class().fields)


@lru_cache(maxsize=64)
def _readers(
    serializer_class: type[AttributesSerializer],
) -> list[tuple[str, Callable[[Any], Any], Callable[[Any], Any] | None]]:
    """Return the name, the getter and the conversion of each field."""
    fields = serializer_class().fields.items()
    return [(name, attrgetter(str(f.source)), _CONVERSIONS.get(type(f))) for name, f in fields]


_CONVERSIONS: Final[Mapping[type, Callable[[Any], Any]]] = {
    UserIdField: user_id_json,
    UtcDateTimeField: lambda moment: None if moment is None else utc_text(moment),
}
