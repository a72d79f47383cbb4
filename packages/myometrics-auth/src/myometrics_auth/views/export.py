"""One's data as a file. Specification: "GET /users/me/export/"."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers
from rest_framework.request import Request

from myometrics_auth.requests import http_request
from myometrics_core.export_files import EXPORT_FORMATS, export_chunks
from myometrics_core.schema import extend_schema
from myometrics_core.views import ApiView

__all__ = ["ExportView"]


class ExportQuerySerializer(serializers.Serializer[Any]):
    """Specification: "GET /users/me/export/", query parameters."""

    format = serializers.ChoiceField(choices=sorted(EXPORT_FORMATS), default="csv")


class ExportView(ApiView):
    """Everything the installed packages hold about the signed-in person, streamed."""

    throttle_bucket = "export"

    @extend_schema(
        operation_id="users_me_export",
        tags=["users"],
        parameters=[ExportQuerySerializer],
        responses={
            (200, "application/octet-stream"): OpenApiResponse(
                OpenApiTypes.BINARY, description="The file."
            )
        },
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        """``user_data.csv`` or ``user_data.json`` as an attachment."""
        kind = self.validated_query(ExportQuerySerializer)["format"]
        chunks: Any = export_chunks(request.user, kind)
        if isinstance(http_request(request), ASGIRequest):
            # Django would collect a plain iterator in memory before sending any of it.
            chunks = _from_threads(chunks)
        response = StreamingHttpResponse(chunks, content_type="application/octet-stream")
        response["Content-Disposition"] = f'attachment; filename="user_data.{kind}"'
        return response


async def _from_threads(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    end = object()
    next_chunk = sync_to_async(next)
    while (chunk := await next_chunk(chunks, end)) is not end:
        yield chunk
