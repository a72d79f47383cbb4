"""OpenAPI for every endpoint, error answers included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema as SpectacularAutoSchema
from drf_spectacular.utils import extend_schema as spectacular_extend_schema
from rest_framework import serializers

from .users import user_id_schema

__all__ = ["AutoSchema", "ErrorSerializer", "extend_schema"]


class ErrorSerializer(serializers.Serializer[Any]):
    """The body of every error answer."""

    detail = serializers.CharField(help_text="One sentence for people.")
    code = serializers.CharField(help_text="Machine-readable, snake_case.")
    field_errors = serializers.DictField(
        child=serializers.ListField(child=serializers.CharField()),
        help_text="Problems by field; empty when none.",
    )


DESCRIPTIONS = {
    "400": "The input is wrong; `field_errors` names the fields.",
    "401": "Not signed in, or the token is not valid (any more).",
    "403": "Signed in, but not allowed to.",
    "404": "There is no such thing.",
    "409": "What is there already stands against it.",
    "413": "The body is too large.",
    "415": "The body is not JSON.",
    "429": "Too many requests; try again after `Retry-After` seconds.",
    "500": "A fault of the server.",
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
    """drf-spectacular's schema with the error answers that each view can give."""

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """The operation of one method, completed with error responses."""
        operation = super().get_operation(*args, **kwargs)
        if operation is not None:
            responses = operation["responses"]
            for status in self._error_statuses(operation):
                responses.setdefault(status, {})
            for status, response in responses.items():
                self._complete(status, response)
            operation["responses"] = dict(sorted(responses.items()))
        return operation

    def _error_statuses(self, operation: dict[str, Any]) -> list[str]:
        parameters = {parameter["in"] for parameter in operation.get("parameters", [])}
        names = {parameter["name"] for parameter in operation.get("parameters", [])}
        has_body = "requestBody" in operation
        is_public = not self.view.get_authenticators()
        possible = {
            "400": has_body or "query" in parameters,
            "401": not is_public,
            "403": not is_public,
            "404": "path" in parameters or "page" in names,
            "413": has_body,
            "415": has_body,
            "429": getattr(self.view, "throttle_bucket", None) is not None,
            "500": True,
        }
        return [status for status, can_be in possible.items() if can_be]

    def _complete(self, status: str, response: dict[str, Any]) -> None:
        """Say of an answer, also of one that the view declares, what all of its status have."""
        response["description"] = response.get("description") or DESCRIPTIONS.get(status, "")
        if status in HEADERS:
            response.setdefault("headers", HEADERS[status])
        if status >= "400" and "content" not in response:
            component = self.resolve_serializer(ErrorSerializer, "response")
            response["content"] = {"application/json": {"schema": component.ref}}


class UserIdSchema(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """A user's id is of the type of the user model's key, which is not known before the site is."""

    target_class = "myometrics_core.fields.UserIdField"

    def map_serializer_field(self, auto_schema: Any, direction: Any) -> dict[str, Any]:
        """The schema of the field."""
        return user_id_schema()


def extend_schema(**annotations: Any) -> Callable[[Any], Any]:
    """drf-spectacular's ``extend_schema`` for methods of an ``ApiView``, on any site.

    The original builds on the host's ``DEFAULT_SCHEMA_CLASS``, which may know nothing of
    OpenAPI 3; this one builds on :class:`AutoSchema` whatever the host has.
    """

    def annotate(method: Any) -> Any:
        method.kwargs = {"schema": AutoSchema, **getattr(method, "kwargs", {})}
        return spectacular_extend_schema(**annotations)(method)

    return annotate
