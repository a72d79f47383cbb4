"""Export of one's own data. Specification: "GET /users/me/export/"."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.serializers import DetailSerializer, ExportQuerySerializer
from myometrics_core.api import ApiView, extend_schema
from myometrics_core.http import download_response
from myometrics_core.personal_data import (
    deliver_export,
    export_chunks,
    export_filename,
    publish_export,
)

__all__ = ["ExportView"]


class ExportView(ApiView):
    """All data of the installed packages about the caller, streamed."""

    throttle_bucket = "export"

    @extend_schema(
        operation_id="users_me_export",
        tags=["users"],
        parameters=[ExportQuerySerializer],
        responses={
            (200, "application/octet-stream"): OpenApiResponse(
                OpenApiTypes.BINARY, description="The file."
            ),
            202: OpenApiResponse(DetailSerializer, description="The file is delivered later."),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Export the user's data as an attachment, or by mail or another ``delivery`` (202)."""
        query = self.validated_query(ExportQuerySerializer)
        kind, delivery = query["format"], query.get("delivery")
        if delivery:
            sentence = deliver_export(delivery, user=current_user(request), export_format=kind)
            self._publish(kind, delivery)
            return Response({"detail": sentence}, status=202)
        self._publish(kind, "response")
        chunks = export_chunks(self.user, kind)
        return download_response(request, chunks, export_filename(kind))

    def _publish(self, export_format: str, delivery: str) -> None:
        publish_export(
            user=current_user(self.request),
            export_format=export_format,
            delivery=delivery,
            request=self.request,
        )
