"""Strict JSON fields: wrong types, NUL, lone surrogates and over-long input are a 400."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import ISO_8601, serializers
from rest_framework.fields import empty

from ..texts import is_finite, is_storable
from ..times import utc_text
from ..users.user_model import user_id_json


class UserIdField(serializers.Field):  # type: ignore[type-arg]
    """A user's primary key, for output: a number or a string, depending on the user model."""

    def to_representation(self, value: Any) -> int | str | None:
        return user_id_json(value)


class UtcDateTimeField(serializers.DateTimeField):
    """A datetime as ``2025-08-19T15:45:00Z``, independent of the site's time zone and formats."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("default_timezone", timezone.utc)
        kwargs.setdefault("input_formats", [ISO_8601])
        super().__init__(**kwargs)

    def to_representation(self, value: datetime) -> str:
        return utc_text(value)


class StrictBooleanField(serializers.BooleanField):
    """Accepts only ``true`` and ``false``; not ``1``, ``"true"`` or ``null``."""

    def run_validation(self, data: Any = empty) -> Any:
        # The base class gives other values a meaning, for HTML forms.
        if data is not empty and not isinstance(data, bool):
            self.fail("invalid", input=data)
        return super().run_validation(data)


class StrictCharField(serializers.CharField):
    """Accepts only JSON strings, without NUL and lone surrogates."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)


@extend_schema_field({"type": "object", "additionalProperties": {}})
class JSONObjectField(serializers.Field):  # type: ignore[type-arg]
    """A JSON object that every supported database can store unchanged.

    At most ``max_bytes`` of compact JSON and ``max_depth`` levels; no NUL or lone surrogate in any
    key or string; only finite numbers within the range of a double.
    """

    default_error_messages = {
        "not_an_object": _("Expected a JSON object."),
        "too_large": _("Must be at most {max_bytes} bytes of JSON."),
        "too_deep": _("Must be nested at most {max_depth} levels deep."),
        "text": _("Must not contain NUL or lone surrogate characters."),
        "number": _("Numbers must be finite and at most 1e308 in magnitude."),
    }

    def __init__(self, *, max_bytes: int = 65536, max_depth: int = 32, **kwargs: Any) -> None:
        self.max_bytes = max_bytes
        self.max_depth = max_depth
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            self.fail("not_an_object")
        for value, depth in _walk(data):
            if depth > self.max_depth:
                self.fail("too_deep", max_depth=self.max_depth)
            if isinstance(value, str) and not is_storable(value):
                self.fail("text")
            if isinstance(value, (int, float)) and not is_finite(value):
                self.fail("number")
        size = len(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())
        if size > self.max_bytes:
            self.fail("too_large", max_bytes=self.max_bytes)
        return data

    def to_representation(self, value: dict[str, Any]) -> dict[str, Any]:
        return value


def _walk(root: Any) -> Iterator[tuple[Any, int]]:
    waiting = [(root, 1)]
    while waiting:
        value, depth = waiting.pop()
        yield value, depth
        if isinstance(value, dict):
            waiting.extend((key, depth) for key in value)
            waiting.extend((item, depth + 1) for item in value.values())
        elif isinstance(value, list):
            waiting.extend((item, depth + 1) for item in value)
