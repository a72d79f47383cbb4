"""The OpenAPI document and its page, with local assets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiYamlRenderer
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView
from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.permissions import AllowAny
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_core.api import exception_handler
from myometrics_core.api.errors import CACHE_CONTROL


class LenientNegotiation(DefaultContentNegotiation):
    """The format that the client requests if available, else the first: never 406."""

    def select_renderer(
        self,
        request: Request,
        renderers: Sequence[BaseRenderer],  # type: ignore[override]
        format_suffix: str | None = None,
    ) -> tuple[Any, str]:
        """Return renderer and media type."""
        try:
            return super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            return renderers[0], str(renderers[0].media_type)


class OpenView:
    """Public, with the API's error responses."""

    authentication_classes = ()
    permission_classes = (AllowAny,)
    content_negotiation_class = LenientNegotiation
    schema = None

    def get_exception_handler(self) -> Any:
        return exception_handler

    def finalize_response(
        self, request: Request, response: Response, *args: Any, **kwargs: Any
    ) -> Response:
        """Return errors as JSON regardless of the requested format. No response is cached."""
        if response.exception:
            renderer = JSONRenderer()
            request.accepted_renderer = renderer
            request.accepted_media_type = renderer.media_type
        answer: Response = super().finalize_response(  # type: ignore[misc]
            request, response, *args, **kwargs
        )
        answer.headers.setdefault("Cache-Control", CACHE_CONTROL)
        return answer


class SchemaView(OpenView, SpectacularAPIView):  # type: ignore[misc]
    """OpenAPI 3, as JSON or YAML."""

    renderer_classes = [OpenApiJsonRenderer, OpenApiYamlRenderer]


class DocsView(OpenView, SpectacularSwaggerSplitView):  # type: ignore[misc]
    """Swagger UI with an external script: the content security policy allows no inline one."""
