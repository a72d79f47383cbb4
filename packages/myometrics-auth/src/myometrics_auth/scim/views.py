"""The SCIM endpoints of one provider (RFC 7644): one view, because the protocol has its own routes.

They are not part of the OpenAPI schema: SCIM describes itself at ``Schemas`` and ``ResourceTypes``,
and identity providers read only that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, cast

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from scim2_models import Error, InvalidValueException, SCIMException
from scim2_server.requests import ScimRequest
from scim2_server.responses import ScimResponse

from myometrics_core.api import ApiView, CompactJSONRenderer, StrictJSONParser, exception_handler
from myometrics_core.texts import is_storable
from myometrics_core.users import parse_user_id

from .authentication import ProvisioningTokenAuthentication, ScimClient
from .protocol import Handler, Service
from .storage import Storage

MEDIA_TYPE: Final = "application/scim+json"
NUL: Final = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
SCIM_TYPES: Final = {
    "parse_error": "invalidSyntax",
    "taken": "uniqueness",
    "validation_error": "invalidValue",
}
"""Codes of this API's errors, and the ``scimType`` that they have."""


class ScimRenderer(CompactJSONRenderer):
    """JSON as ``application/scim+json``."""

    media_type = MEDIA_TYPE


class ScimParser(StrictJSONParser):
    """Parses ``application/scim+json``."""

    media_type = MEDIA_TYPE


class ScimView(ApiView):
    """Users, groups and the description of the service, for one identity provider."""

    schema = None
    throttle_bucket = "scim"
    needs_user_row = False
    authentication_classes = (ProvisioningTokenAuthentication,)

    def get(self, request: Request, slug: str, path: str) -> Response:
        return self._respond(request, slug, path)

    def post(self, request: Request, slug: str, path: str) -> Response:
        return self._respond(request, slug, path)

    def put(self, request: Request, slug: str, path: str) -> Response:
        return self._respond(request, slug, path)

    def patch(self, request: Request, slug: str, path: str) -> Response:
        return self._respond(request, slug, path)

    def delete(self, request: Request, slug: str, path: str) -> Response:
        return self._respond(request, slug, path)

    def get_parsers(self) -> list[Any]:
        return [ScimParser(), StrictJSONParser()]

    def get_renderers(self) -> list[Any]:
        return [ScimRenderer()]

    def get_exception_handler(self) -> Any:
        return scim_exception_handler

    def rate_limit_identity(self, request: Request) -> str:
        return f"scim:{cast('ScimClient', request.user).provider}"

    def _respond(self, request: Request, slug: str, path: str) -> Response:
        storage = Storage(slug, request)
        storage.locked_user = _written_user(storage, path)
        query = request.query_params.dict()
        if not all(map(is_storable, query.values())):
            raise InvalidValueException(detail="The query contains NUL.")
        root = request.path[: len(request.path) - len(path)]
        method = str(request.method)
        scim_request = ScimRequest(
            method="GET" if method == "HEAD" else method,
            base_url=request.build_absolute_uri(root).rstrip("/"),
            path=f"/{path}",
            query=query,
            headers=dict(request.headers),
            body=_body(request),
        )
        try:
            return _response(Handler(Service(storage), storage).handle(scim_request))
        except RecursionError:
            raise ParseError(_("The request is nested too deeply.")) from None


def scim_exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response:
    """Return the response for an exception, with the error body of SCIM (RFC 7644, 3.12)."""
    if isinstance(exc, SCIMException):
        return _response(Service().error_response(exc))
    response = exception_handler(exc, context)
    code = response.data["code"]
    error = Error(
        status=response.status_code,
        scim_type=SCIM_TYPES.get(code),
        detail=response.data["detail"],
    )
    response.data = error.model_dump()
    return response


def _response(answer: ScimResponse) -> Response:
    return Response(answer.body, status=int(answer.status), headers=dict(answer.headers))


def _body(request: Request) -> bytes:
    if request.method not in {"POST", "PUT", "PATCH"} or not request.data:
        return b""
    text = json.dumps(request.data)
    if NUL.search(text):
        raise InvalidValueException(detail="The body contains NUL.")
    return text.encode()


def _written_user(storage: Storage, path: str) -> Any:
    """Return the key of the user that a request changes; it is locked before anything else."""
    endpoint, _slash, resource_id = path.strip("/").partition("/")
    if not storage.is_write or endpoint.lower() != "users":
        return None
    try:
        return parse_user_id(resource_id)
    except ValueError:
        return None
