"""OpenAPI schema of every endpoint, including error responses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from drf_spectacular.drainage import get_override
from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema as SpectacularAutoSchema
from drf_spectacular.plumbing import is_list_serializer
from drf_spectacular.serializers import PolymorphicProxySerializerExtension
from drf_spectacular.settings import spectacular_settings
from drf_spectacular.utils import PolymorphicProxySerializer
from drf_spectacular.utils import extend_schema as spectacular_extend_schema
from rest_framework import serializers

from ..users.user_model import user_id_schema

PREFIX = "MyoMetrics"


class ErrorSerializer(serializers.Serializer[Any]):
    """The body of every error response."""

    detail = serializers.CharField(help_text="One sentence for users.")
    code = serializers.CharField(help_text="Machine-readable, snake_case.")
    field_errors = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Problems by field; empty when none.",
    )


class OneOfSerializer(PolymorphicProxySerializer):
    """A body of one of several shapes, as the component ``name``."""

    def __init__(self, name: str, *shapes: type[serializers.Serializer[Any]]) -> None:
        super().__init__(name, list(shapes), resource_type_field_name=None)


DESCRIPTIONS = {
    "400": "The input is invalid; `field_errors` names the fields.",
    "401": "Not signed in, or the token is not valid (any more).",
    "403": "Signed in, but not allowed to.",
    "404": "It does not exist.",
    "409": "The request conflicts with the current state.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "Too many requests; try again after `Retry-After` seconds.",
    "500": "An error of the server.",
}
HEADERS = {
    "401": {
        "WWW-Authenticate": {
            "description": "How to sign in, such as `Bearer`.",
            "schema": {"type": "string"},
        }
    },
    "429": {
        "Retry-After": {
            "description": "Whole seconds.",
            "schema": {"type": "integer", "minimum": 1},
            "required": True,
        }
    },
}


class AutoSchema(SpectacularAutoSchema):
    """drf-spectacular's schema with the possible error responses of each view.

    Components of this suite's serializers don't clash with the site's. Requests and responses are
    separate components regardless of ``COMPONENT_SPLIT_REQUEST``. A component name that the site
    uses is prefixed with ``MyoMetrics``. Choices are inlined: drf-spectacular would name them after
    the field, and merge them with the site's fields of that name.
    """

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            responses: dict[str, Any] = {status: {} for status in self._error_statuses(operation)}
            responses |= operation["responses"]
            for status, response in responses.items():
                response["description"] = response.get("description") or DESCRIPTIONS.get(
                    status, ""
                )
                if status in HEADERS:
                    response.setdefault("headers", HEADERS[status])
                if status >= "400" and "content" not in response:
                    component = self.resolve_serializer(ErrorSerializer, "response")
                    response["content"] = {"application/json": {"schema": component.ref}}
            operation["responses"] = dict(sorted(responses.items()))
        return operation

    def get_summary(self) -> str | None:
        """Return the first sentence of the description, unless the view names a summary."""
        text: str = super().get_summary() or self.get_description()
        sentence = re.split(r"[.;] |\.?$", " ".join(text.split()), maxsplit=1)[0]
        return sentence.replace("``", "`") or None

    def _get_serializer_name(self, serializer: Any, direction: Any, *args: Any) -> str:
        name = str(super()._get_serializer_name(serializer, direction, *args))
        if is_list_serializer(serializer) or not _is_ours(serializer):
            return name
        if direction == "request" and not spectacular_settings.COMPONENT_SPLIT_REQUEST:
            name += "Request"
        plain = name.removeprefix("Patched").removesuffix("Request")
        is_taken = not {name, plain}.isdisjoint(_other_names(serializers.BaseSerializer))
        return PREFIX + name if is_taken else name

    def _map_serializer(self, serializer: Any, direction: Any, *args: Any) -> Any:
        schema: Any = super()._map_serializer(serializer, direction, *args)  # type: ignore[no-untyped-call]
        properties = schema.get("properties", {}) if _is_ours(serializer) else {}
        for name, value in properties.items():
            if isinstance(value, dict) and "enum" in value:
                # Inline the choices, so that they become no component.
                rest = {key: part for key, part in value.items() if key != "x-spec-enum-id"}
                choices = {key: rest.pop(key) for key in ("type", "enum") if key in rest}
                properties[name] = {"allOf": [choices], **rest}
        return schema

    def _error_statuses(self, operation: dict[str, Any]) -> list[str]:
        parameters = operation.get("parameters", [])
        places = {parameter["in"] for parameter in parameters}
        has_body = "requestBody" in operation
        is_public = not self.view.get_authenticators()
        possible = {
            "400": has_body or "query" in places,
            "401": not is_public,
            "403": not is_public,
            "404": "path" in places or any(one["name"] == "page" for one in parameters),
            "413": has_body,
            "415": has_body,
            "429": getattr(self.view, "throttle_bucket", None) is not None,
            "500": True,
        }
        return [status for status, can_be in possible.items() if can_be]


def _is_ours(serializer: Any) -> bool:
    kind = serializer if isinstance(serializer, type) else type(serializer)
    return kind.__module__.startswith("myometrics_")


def _other_names(base: type[Any]) -> Iterator[str]:
    """Yield the component names of the serializers of the site and of other libraries."""
    for kind in base.__subclasses__():
        if not kind.__module__.startswith(("myometrics_", "rest_framework.")):
            named = get_override(kind, "component_name") or getattr(
                getattr(kind, "Meta", None), "ref_name", None
            )
            yield str(named or kind.__name__).removesuffix("Serializer")
        yield from _other_names(kind)


class OneOfSchema(PolymorphicProxySerializerExtension):  # type: ignore[no-untyped-call]
    """Extension for the subclass: drf-spectacular's extensions match exact classes."""

    target_class = "myometrics_core.api.OneOfSerializer"


class UserIdSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """The type of a user id depends on the site's user model."""

    target_class = "myometrics_core.api.UserIdField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        return user_id_schema()


def extend_schema(**annotations: Any) -> Callable[[Any], Any]:
    """drf-spectacular's ``extend_schema`` for methods of an ``ApiView``, on any site.

    The original uses the site's ``DEFAULT_SCHEMA_CLASS``, which may not support OpenAPI 3; this one
    always uses :class:`AutoSchema`.
    """

    def annotate(method: Any) -> Any:
        method.kwargs = {"schema": AutoSchema, **getattr(method, "kwargs", {})}
        return spectacular_extend_schema(**annotations)(method)

    return annotate
