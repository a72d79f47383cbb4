"""The endpoints of analytics."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_core.api import ApiView, IsAdministrator, extend_schema
from myometrics_core.db import read_from_replica
from myometrics_core.events import publish_read
from myometrics_core.users import parse_user_id, user_id_json

from .selectors import activity_get, report_get
from .serializers import ActivitySerializer, ReportQuerySerializer, ReportSerializer


class AnalyticsView(ApiView):
    """Uploads, diagnoses and their trends for administrators."""

    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="analytics_retrieve",
        parameters=[ReportQuerySerializer],
        responses={200: ReportSerializer},
        tags=["analytics"],
    )
    def get(self, request: Request) -> Response:
        """Return the report on uploads of the last days. Filters combine."""
        query = self.validated_query(ReportQuerySerializer)
        with read_from_replica(user=request.user):
            report = report_get(**query)
        _publish_read(request, "report", filters=sorted(query))
        return Response(report)


class MyActivityView(ApiView):
    """The authenticated user's own uploads."""

    @extend_schema(
        operation_id="my_activity_retrieve", responses={200: ActivitySerializer}, tags=["analytics"]
    )
    def get(self, request: Request) -> Response:
        """Return the uploads of the signed-in user."""
        with read_from_replica(user=request.user):
            return Response(activity_get(user=self.user))


class UserActivityView(ApiView):
    """Uploads of any user, for administrators."""

    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="user_activity_retrieve",
        responses={200: ActivitySerializer},
        tags=["analytics"],
    )
    def get(self, request: Request, user_id: str) -> Response:
        """Return the uploads of a user, in the format of ``users/me/activity/``."""
        users = get_user_model()._base_manager
        try:
            user = users.get(pk=parse_user_id(user_id))
        except (ValueError, users.model.DoesNotExist):
            raise NotFound(_("There is no such user.")) from None
        with read_from_replica(user=request.user):
            activity = activity_get(user=user)
        _publish_read(request, "activity", user_id=user_id_json(user.pk))
        return Response(activity)


def _publish_read(request: Request, resource_id: str, **details: Any) -> None:
    publish_read(
        "analytics",
        actor_id=request.user.pk,
        action="analytics_viewed",
        resource=("analytics", resource_id),
        request=request,
        details=details,
    )
