"""One's data as a file. Specification: "GET /users/me/export/"."""

from __future__ import annotations

from typing import Any

from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.serializers import DetailSerializer
from myometrics_core.downloads import download_response
from myometrics_core.export_deliveries import deliver_export, export_deliveries
from myometrics_core.export_files import EXPORT_FORMATS, export_chunks, export_filename
from myometrics_core.schema import extend_schema
from myometrics_core.views import ApiView

__all__ = ["ExportView"]


class ExportQuerySerializer(serializers.Serializer[Any]):
    """Specification: "GET /users/me/export/", query parameters.

    ``delivery`` names another way than the answer itself, where an installed package has one.
    """

    format = serializers.ChoiceField(choices=sorted(EXPORT_FORMATS), default="csv")
    delivery = serializers.CharField(required=False, help_text="Such as `email`: answers 202.")

    def validate_delivery(self, value: str) -> str:
        """Refuse what no installed package offers."""
        if value not in export_deliveries():
            raise serializers.ValidationError(
                _('"%(value)s" is not a way to deliver an export.') % {"value": value}
            )
        return value


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
            ),
            202: OpenApiResponse(DetailSerializer, description="The file is delivered later."),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """``user_data.csv`` or ``user_data.json`` as an attachment, or 202 with ``delivery``."""
        query = self.validated_query(ExportQuerySerializer)
        kind, delivery = query["format"], query.get("delivery")
        if delivery:
            sentence = deliver_export(delivery, user=request.user, export_format=kind)
            return Response({"detail": sentence}, status=202)
        chunks = export_chunks(request.user, kind)
        return download_response(request, chunks, export_filename(kind))
