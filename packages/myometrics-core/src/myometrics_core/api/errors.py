"""The error format: ``{"detail", "code", "field_errors"}``. Specification: "Error Handling"."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import (
    BadRequest,
    PermissionDenied,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.core.exceptions import ValidationError as DjangoValidationError
from django.core.signals import got_request_exception
from django.http import Http404, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.serializers import as_serializer_error
from rest_framework.settings import api_settings
from rest_framework.views import set_rollback

from ..http.requests import http_request
from ..texts import encodable_text

logger = logging.getLogger("myometrics.core.errors")

UNREADABLE = (BadRequest, MultiPartParserError, SuspiciousOperation, UnreadablePostError)

NON_FIELD = "non_field_errors"
CACHE_CONTROL = "private, no-store"
"""``Cache-Control`` of every API response. Django before 5.2.15 respects only ``private``."""


class Conflict(exceptions.APIException):
    """409: the request is valid, but conflicts with the current state."""

    status_code = status.HTTP_409_CONFLICT
    default_detail = _("The request conflicts with the present state.")
    default_code = "conflict"


class CallerDeleted(exceptions.APIException):
    """401: the authenticated user was deleted while the request was processed."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_detail = _("The token is invalid or has expired.")
    default_code = "token_not_valid"
    auth_header = "Bearer"


class BodyTooLarge(exceptions.APIException):
    """413: the body exceeds the endpoint's limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = _("The request body is too large.")
    default_code = "body_too_large"


def error_body(
    detail: str, code: str, field_errors: Mapping[str, list[str]] | None = None
) -> dict[str, Any]:
    """Return the body of an error response."""
    # Messages that quote the client's input may contain lone surrogates, which can't be encoded.
    problems = {
        name: list(map(encodable_text, texts)) for name, texts in (field_errors or {}).items()
    }
    return {"detail": encodable_text(detail), "code": code, "field_errors": problems}


def json_error(status_code: int, detail: str, code: str) -> JsonResponse:
    """Return an error response for code outside DRF, such as middleware and ``handler404``."""
    headers = {"Cache-Control": CACHE_CONTROL}
    return JsonResponse(error_body(detail, code), status=status_code, headers=headers)


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response:
    """Convert any exception of a view into a response in the common error format.

    Unexpected exceptions become a 500 without details; they are logged with the traceback and sent
    as ``got_request_exception``, so that error trackers and the test client see them.
    """
    # It would mark a transaction that is not the view's, such as that of a TestCase.
    if not getattr(context.get("view"), "manages_transactions", False):
        set_rollback()
    known = _as_api_exception(exc)
    if known is not None:
        headers = {}
        if getattr(known, "auth_header", None):
            headers["WWW-Authenticate"] = str(known.auth_header)  # type: ignore[attr-defined]
        if getattr(known, "wait", None) is not None:
            headers["Retry-After"] = str(max(1, int(known.wait)))  # type: ignore[attr-defined]
        return Response(_body(known), status=known.status_code, headers=headers)
    request: Any = context.get("request")
    path = getattr(request, "path", "?")
    logger.error("Unhandled error at %s", path, exc_info=exc, extra={"status_code": 500})
    got_request_exception.send(sender=type(context.get("view")), request=http_request(request))
    return Response(error_body(str(_("A server error occurred.")), "error"), status=500)


def _as_api_exception(exc: Exception) -> exceptions.APIException | None:
    if isinstance(exc, exceptions.APIException):
        return exc
    if isinstance(exc, Http404):
        return exceptions.NotFound()
    if isinstance(exc, PermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(exc, DjangoValidationError):
        return exceptions.ValidationError(as_serializer_error(exc))
    if isinstance(exc, RequestDataTooBig):
        return BodyTooLarge()
    if isinstance(exc, UNREADABLE):
        return exceptions.ParseError(_("The request can't be read."))
    return None


def _body(exc: exceptions.APIException) -> dict[str, Any]:
    if isinstance(exc, exceptions.ValidationError):
        field_errors: dict[str, list[str]] = {}
        for name, problem in _walk(exc.detail, ""):
            field_errors.setdefault(name, []).append(problem)
        code = exc.default_code
        if code == exceptions.ValidationError.default_code:
            code = "validation_error"
        first: str = str(_("Invalid input."))
        if field_errors:
            name, (problem, *_others) = next(iter(field_errors.items()))
            first = problem if name == NON_FIELD else f"{name}: {problem}"
        return error_body(first, code, field_errors)
    detail: Any = exc.detail
    code = getattr(detail, "code", exc.default_code)
    if isinstance(detail, Mapping):
        code = str(detail.get("code", code))
        detail = detail.get("detail", exc.default_detail)
    while isinstance(detail, (list, tuple)):
        detail = detail[0] if detail else ""
    return error_body(str(detail), code)


def _walk(detail: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(detail, Mapping):
        for key, value in detail.items():
            # The key is configurable (`NON_FIELD_ERRORS_KEY`).
            is_non_field = key == api_settings.NON_FIELD_ERRORS_KEY
            yield from _walk(value, _join(name, NON_FIELD if is_non_field else str(key)))
    elif isinstance(detail, Sequence) and not isinstance(detail, str):
        for position, item in enumerate(detail):
            nested = isinstance(item, (Mapping, list))
            yield from _walk(item, _join(name, str(position)) if nested else name)
    else:
        yield name or NON_FIELD, str(detail)


def _join(name: str, key: str) -> str:
    if key == NON_FIELD and name:
        return name
    return f"{name}.{key}" if name else key
