"""The base of every endpoint of the suite.

A view needs nothing of the host's ``REST_FRAMEWORK`` but the authentication classes, and changes
nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, ClassVar, NoReturn, cast

from django.db import transaction
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.permissions import SAFE_METHODS, AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.settings import api_settings
from rest_framework.views import APIView

from .negotiation import FirstRendererNegotiation
from .replicas import write_remember
from .schema import AutoSchema
from .settings import core_settings

__all__ = ["ApiView", "PublicApiView", "UnknownPathView"]


class ApiView(APIView):
    """Parse, call a service or selector, respond; the contract's manners come from here.

    A request is authenticated, refused (405) if the method isn't offered, counted in
    ``throttle_bucket`` and then checked for permission. Nobody signed in: permission is checked
    before counting, so that strangers can't spend the bucket of an address.

    Errors take the one error shape; transactions are the services' affair, so
    ``ATOMIC_REQUESTS`` of the host does not apply (a refused sign-in must stay counted).
    """

    throttle_bucket: ClassVar[str | None] = "api"
    permission_classes: Sequence[Any] = (IsAuthenticated,)
    # No authentication classes of its own: the host's default ones.
    authentication_classes: Sequence[Any] | None = None  # type: ignore[assignment]
    http_method_names = ["get", "post", "put", "patch", "delete", "head"]
    content_negotiation_class = FirstRendererNegotiation
    metadata_class = None
    schema: Any = AutoSchema()

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Any:
        """The view function, exempt from ``ATOMIC_REQUESTS``."""
        return transaction.non_atomic_requests(super().as_view(**initkwargs))

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Authenticate, check the method, count, check permission, in this order."""
        self.format_kwarg = self.get_format_suffix(**kwargs)
        request.accepted_renderer, request.accepted_media_type = self.perform_content_negotiation(
            request
        )
        request.version, request.versioning_scheme = None, None
        self.perform_authentication(request)
        is_known = bool(request.user and request.user.is_authenticated)
        if not is_known:
            self.check_permissions(request)
        self._check_method(request)
        self.check_throttles(request)
        if is_known:
            self.check_permissions(request)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        """Answers hold people's data: no cache may keep them."""
        response = super().finalize_response(request, response, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "no-store")
        if request.method not in SAFE_METHODS:
            # Nobody is asked for anew who could not be authenticated.
            write_remember(getattr(request, "_user", None))
        return response

    def validated(
        self, serializer_class: type[BaseSerializer[Any]], *, partial: bool = False
    ) -> dict[str, Any]:
        """The request's body as ``serializer_class`` has checked it; raises ``ValidationError``.

        The serializer only shapes and checks: one instance serves all requests, so it has no
        context and no ``initial_data``.
        """
        return _checked(serializer_class, self.request.data, partial=partial)

    def validated_query(self, serializer_class: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """The query string's known parameters, checked as a body is."""
        return _checked(serializer_class, self.request.query_params.dict())

    def rate_limit_identity(self, request: Request) -> str | None:
        """Whom the request counts against, where that is neither the user nor the address."""
        return None

    def get_authenticators(self) -> list[Any]:
        """The view's own authentication classes, else the host's default ones."""
        classes = self.authentication_classes
        if classes is None:
            classes = api_settings.DEFAULT_AUTHENTICATION_CLASSES
        return [authenticator() for authenticator in cast("Any", classes)]

    def get_authenticate_header(self, request: Request) -> Any:
        """``WWW-Authenticate`` of a 401: the host's scheme, ``Bearer`` on public endpoints."""
        if not request.authenticators:
            return "Bearer"
        return super().get_authenticate_header(request)

    def get_renderers(self) -> list[Any]:
        """As ``MYOMETRICS["RENDERER_CLASSES"]`` says."""
        return [renderer() for renderer in _classes(tuple(core_settings.RENDERER_CLASSES))]

    def get_parsers(self) -> list[Any]:
        """As ``MYOMETRICS["PARSER_CLASSES"]`` says."""
        return [parser() for parser in _classes(tuple(core_settings.PARSER_CLASSES))]

    def get_throttles(self) -> list[Any]:
        """As ``MYOMETRICS["THROTTLE_CLASSES"]`` says."""
        return [throttle() for throttle in _classes(tuple(core_settings.THROTTLE_CLASSES))]

    def get_exception_handler(self) -> Callable[..., Response | None]:
        """As ``MYOMETRICS["EXCEPTION_HANDLER"]`` says."""
        return core_settings.EXCEPTION_HANDLER

    def permission_denied(
        self, request: Request, message: str | None = None, code: str | None = None
    ) -> NoReturn:
        """Raise 401 for nobody, 403 for somebody."""
        if not (request.user and request.user.is_authenticated):
            raise exceptions.NotAuthenticated()
        raise exceptions.PermissionDenied(detail=message, code=code)

    def _check_method(self, request: Request) -> None:
        method = str(request.method).lower()
        if method not in self.http_method_names or not hasattr(self, method):
            raise exceptions.MethodNotAllowed(str(request.method))


class PublicApiView(ApiView):
    """An endpoint for anybody. Whoever sends credentials as well is not asked who they are."""

    permission_classes = (AllowAny,)
    authentication_classes = ()


class UnknownPathView(PublicApiView):
    """A JSON 404 for every path under the API's prefix that no package serves."""

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
    if data is None:  # has an error of its own, which only a serializer with data gives
        serializer_class(data=None).is_valid(raise_exception=True)
    serializer = _shared_serializer(serializer_class, partial)  # type: ignore[arg-type]  # hashable
    return dict(serializer.run_validation(data))


@lru_cache(maxsize=256)
def _shared_serializer(
    serializer_class: type[BaseSerializer[Any]], partial: bool
) -> BaseSerializer[Any]:
    # To copy a serializer's fields costs more than to check a request with them.
    return serializer_class(partial=partial)
