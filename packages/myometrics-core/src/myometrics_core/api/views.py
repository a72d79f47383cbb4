"""Base views; of the site's ``REST_FRAMEWORK`` they use only the authentication classes."""

from __future__ import annotations

import io
import random
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, Final, NoReturn, cast

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.db import connections, transaction
from django.http import HttpResponse, UnreadablePostError
from django.template.loader import render_to_string
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import SAFE_METHODS, AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from ..conf.core_settings import core_settings
from ..db.replicas import remember_write
from ..db.transactions import is_serialization_failure
from ..http.requests import content_length, http_request, unsized_body
from ..users.user_model import has_user_row, is_administrator
from .errors import CACHE_CONTROL, BodyTooLarge
from .schema import AutoSchema

MAX_AUTH_BODY_BYTES: Final = 16 * 1024
"""Maximum body size of endpoints under ``auth/``, unless ``MAX_BODY_BYTES`` is lower."""
MAX_ATTEMPTS: Final = 30
MAX_RETRY_SECONDS: Final = 0.5
"""Maximum pause before a retry; the pause is random, so that conflicting requests spread out."""
ERROR_HEADERS: Final = ("Allow", "Retry-After")
"""Headers of the JSON error response that are copied to its page."""
METHODS_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})


class FirstRendererNegotiation(DefaultContentNegotiation):
    """Selects the first renderer, regardless of ``Accept`` and ``?format=``: never a 406."""

    def select_renderer(self, request: Request, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class IsAdministrator(IsAuthenticated):
    """Authenticated, and an administrator by ``MYOMETRICS["IS_ADMINISTRATOR"]``."""

    message = gettext_lazy("Only an administrator may do this.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        return is_administrator(request.user)


class ApiView(APIView):
    """Base view: parses, calls a service or selector, responds; implements the common contract.

    A request is checked in this order: authentication (401), method (405), media type (415), body
    size (413), rate limit (429), permission (403). A body that is too large counts against the
    client's address and is not parsed. Anonymous requests are rejected before they are counted, so
    that they can't use up the bucket of an address.

    After a serialization failure the request is run again from there. Errors have the common error
    format. Services manage transactions, so the site's ``ATOMIC_REQUESTS`` does not apply (a failed
    login must stay counted).
    """

    throttle_bucket: ClassVar[str | None] = "api"
    # Replaces the bucket's rate; the view then counts separately.
    throttle_rate: str | None = None
    # In bytes; None: MAX_AUTH_BODY_BYTES in the bucket "auth", else MAX_BODY_BYTES.
    max_body_bytes: ClassVar[int | None] = None
    # Whether the body is left unread, regardless of its media type.
    ignores_body: ClassVar[bool] = False
    # Whether only users with a row in the user table may call it (others: 403).
    needs_user_row: ClassVar[bool] = True
    # Whether ATOMIC_REQUESTS does not apply.
    manages_transactions: ClassVar[bool] = True
    # Number of runs of the request; 0 while it is checked.
    attempts: int = 0
    # The exception for an unusable body, raised after the request was counted.
    body_error: Exception | None = None
    permission_classes: Sequence[Any] = (IsAuthenticated,)
    # None: the site's default authentication classes.
    authentication_classes: Sequence[Any] | None = None  # type: ignore[assignment]
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]
    content_negotiation_class = FirstRendererNegotiation
    metadata_class = None
    versioning_class = None
    # Not the site's default: with two renderers DRF would add "Vary: Accept".
    renderer_classes = ()
    schema: Any = AutoSchema()

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        return transaction.non_atomic_requests(super().as_view(**initkwargs))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        django_request = http_request(request)
        # Django decodes the query by the charset in Content-Type, which may not be a text encoding.
        if (django_request.encoding or settings.DEFAULT_CHARSET) != "utf-8":
            django_request.encoding = "utf-8"
        self.format_kwarg = None
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(
            request
        )
        request.version, request.versioning_scheme = None, None
        self.perform_authentication(request)
        is_known = bool(request.user and request.user.is_authenticated)
        if not is_known:
            self.check_permissions(request)
        self._check_method(request)
        self._check_body(request)
        self.check_throttles(request)
        if self.body_error is not None:
            raise self.body_error
        if is_known:
            if self.needs_user_row and not has_user_row(request.user):
                raise exceptions.PermissionDenied(gettext_lazy("Only a user account may do this."))
            self.check_permissions(request)
        self.attempts = 1

    def handle_exception(self, exc: Exception) -> Response:
        """Run the request again after a serialization failure; otherwise return the error response.

        The transaction of the failed attempt is rolled back. Transactions committed before it stay:
        a view that uses several transactions must be safe to run again after each of them.
        """
        may_retry = 0 < self.attempts < MAX_ATTEMPTS and is_serialization_failure(exc)
        # A transaction around the request can't be run again from here.
        is_inside = any(known.in_atomic_block for known in connections.all(initialized_only=True))
        if not may_retry or is_inside:
            return super().handle_exception(exc)
        time.sleep(random.uniform(0, min(MAX_RETRY_SECONDS, 0.01 * 2**self.attempts)))
        self.attempts += 1
        handler = getattr(self, str(self.request.method).lower())
        try:
            return cast("Response", handler(self.request, *self.args, **self.kwargs))
        except Exception as error:
            return self.handle_exception(error)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        """Forbid caching: responses contain personal data."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", CACHE_CONTROL)
        if request.method not in SAFE_METHODS:
            # Read `_user`: `request.user` would authenticate again after a failure.
            remember_write(getattr(request, "_user", None))
        return response

    @property
    def user(self) -> AbstractBaseUser:
        """The authenticated user, in a view that needs a user row."""
        return cast("AbstractBaseUser", self.request.user)

    @property
    def body_limit(self) -> int:
        """Maximum body size in bytes, at most ``MYOMETRICS["MAX_BODY_BYTES"]``."""
        limit = int(core_settings.MAX_BODY_BYTES)
        own = self.max_body_bytes
        if own is None and self.throttle_bucket == "auth":
            own = MAX_AUTH_BODY_BYTES
        return limit if own is None else min(own, limit)

    def validated(
        self, serializer_class: type[BaseSerializer[Any]], *, partial: bool = False
    ) -> dict[str, Any]:
        """Return the body validated by ``serializer_class``; raises ``ValidationError``."""
        return _checked(serializer_class, self.request.data, partial=partial)

    def validated_query(self, serializer_class: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """Return the known query parameters, validated as a body is."""
        return _checked(serializer_class, self.request.query_params.dict())

    def rate_limit_identity(self, request: Request) -> str | None:
        """Return the key to count the request against, or ``None`` for the user or address."""
        return None

    def get_authenticators(self) -> list[Any]:
        own = self.authentication_classes
        classes: Any = api_settings.DEFAULT_AUTHENTICATION_CLASSES if own is None else own
        return [authenticator() for authenticator in classes]

    def get_authenticate_header(self, request: Request) -> Any:
        """Return ``WWW-Authenticate`` of a 401: the site's scheme, ``Bearer`` on public endpoints.

        Also ``Bearer`` for a client with a token and for a user who was just deleted: if the
        first authentication class has no scheme (``SessionAuthentication``), DRF would respond with
        403.
        """
        scheme = super().get_authenticate_header(request) if request.authenticators else "Bearer"
        has_token = request.headers.get("Authorization", "").lower().startswith("bearer ")
        was_known = getattr(getattr(request, "_user", None), "is_authenticated", False)
        return scheme or ("Bearer" if has_token or was_known else None)

    def get_renderers(self) -> list[Any]:
        return [renderer() for renderer in _classes(tuple(core_settings.RENDERER_CLASSES))]

    def get_parsers(self) -> list[Any]:
        return [parser() for parser in _classes(tuple(core_settings.PARSER_CLASSES))]

    def get_throttles(self) -> list[Any]:
        return [throttle() for throttle in _classes(tuple(core_settings.THROTTLE_CLASSES))]

    def get_exception_handler(self) -> Callable[..., Response | None]:
        return core_settings.EXCEPTION_HANDLER

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        """Raise 401 for an anonymous request, 403 for an authenticated one."""
        if not (request.user and request.user.is_authenticated):
            raise exceptions.NotAuthenticated()
        raise exceptions.PermissionDenied(detail=message, code=code)

    def _check_method(self, request: Request) -> None:
        method = str(request.method).lower()
        if method not in self.http_method_names or not hasattr(self, method):
            raise exceptions.MethodNotAllowed(str(request.method))

    def _check_body(self, request: Request) -> None:
        """Raise 415 for another media type; set ``body_error`` if the body is too large."""
        length = content_length(request)
        if request.method in METHODS_WITH_BODY and not self.ignores_body:
            length = length or self._read_unsized_body(request)
            select_parser = self.get_content_negotiator().select_parser
            if length and select_parser(request, request.parsers or ()) is None:
                raise exceptions.UnsupportedMediaType(str(request.content_type))
        if length > self.body_limit:
            self.body_error = BodyTooLarge()

    def _read_unsized_body(self, request: Request) -> int:
        """Read a body without ``Content-Length``, which DRF treats as empty; return its length."""
        stream = unsized_body(request)
        try:
            body = stream.read(self.body_limit + 1) if stream is not None else b""
        except Exception as error:  # servers raise their own exceptions for malformed chunks
            self.body_error = UnreadablePostError(*error.args)
            return 0
        if body:
            request._stream = io.BytesIO(body)
        return len(body)


class PublicApiView(ApiView):
    """A public endpoint. Credentials in the request are ignored."""

    permission_classes = (AllowAny,)
    authentication_classes = ()


class PublicPageView(PublicApiView):
    """A public page that a mail links to: HTML, including errors.

    Only POST changes data, because mail scanners follow links, and only POST is counted.
    """

    schema = None  # not part of the API
    throttle_bucket = "auth"
    ignores_body = True  # browsers and mail clients send a form

    def get_throttles(self) -> list[Any]:
        return super().get_throttles() if self.request.method == "POST" else []

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        if getattr(response, "exception", False):
            # The site's exception handler may use another format.
            detail = response.data.get("detail") if isinstance(response.data, dict) else None
            context = {"detail": detail or response.status_text}
            page = self.page("myometrics_core/error_page.html", context, response.status_code)
            for name in ERROR_HEADERS:
                if name in response:
                    page[name] = response[name]
            response = page
        return super().finalize_response(request, response, *args, **kwargs)

    def page(self, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        """Render ``template`` in UTF-8, regardless of the site's ``DEFAULT_CHARSET``."""
        content = render_to_string(template, context, http_request(self.request))
        return HttpResponse(content, content_type="text/html; charset=utf-8", status=status)


class UnknownPathView(PublicApiView):
    """A JSON 404 for every path under the API prefix that no package serves."""

    throttle_bucket = None
    schema = None

    def _check_method(self, request: Request) -> None:
        raise exceptions.NotFound(_("There is nothing at this address."))


@lru_cache(maxsize=64)
def _classes(paths: Sequence[Any]) -> tuple[type, ...]:
    return tuple(import_string(path) if isinstance(path, str) else path for path in paths)


def _checked(
    serializer_class: type[BaseSerializer[Any]], data: Any, *, partial: bool = False
) -> dict[str, Any]:
    # One instance per request: DRF's messages keep the language of their first use.
    serializer = serializer_class(data=data, partial=partial)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)
