"""``POST /emergency-access/``."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy
from rest_framework import serializers, status
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from myometrics_core.api import ApiView, CallerDeleted, extend_schema

from ..log.services import ActorDeleted
from .emergency_access import grant_emergency_access
from .serializers import EmergencyAccessRequestSerializer, EmergencyAccessSerializer


class MayUseEmergencyAccess(IsAuthenticated):
    """The user has the permission ``use_emergency_access``."""

    message = gettext_lazy("You may not use emergency access.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        name = "myometrics_audit_review.use_emergency_access"
        has_perm = getattr(request.user, "has_perm", None)
        return super().has_permission(request, view) and bool(has_perm and has_perm(name))


class EmergencyAccessView(ApiView):
    """Users with the permission grant themselves emergency access; reviewers decide later."""

    http_method_names = ["post"]
    permission_classes = (MayUseEmergencyAccess,)

    @extend_schema(
        operation_id="emergency_access_create",
        tags=["audit"],
        request=EmergencyAccessRequestSerializer,
        responses={201: EmergencyAccessSerializer},
    )
    def post(self, request: Request) -> Response:
        """Grant the caller emergency access to one data subject, for some minutes."""
        body = self.validated(EmergencyAccessRequestSerializer)
        try:
            grant = grant_emergency_access(request.user, **body, request=request)  # type: ignore[arg-type]
        except ActorDeleted:
            raise CallerDeleted() from None
        except ValidationError as error:
            raise serializers.ValidationError(error.message_dict) from None
        return Response(EmergencyAccessSerializer(grant).data, status=status.HTTP_201_CREATED)
