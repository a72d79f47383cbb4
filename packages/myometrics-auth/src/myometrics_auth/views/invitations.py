"""Invitations by administrators."""

from __future__ import annotations

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.selectors import invitations
from myometrics_auth.serializers import (
    InvitationChangesSerializer,
    InvitationPageSerializer,
    InvitationSerializer,
)
from myometrics_auth.services.invitations import (
    invitation_create,
    invitation_resend,
    invitation_revoke,
)
from myometrics_core.api import (
    ApiView,
    ErrorSerializer,
    IsAdministrator,
    PagePagination,
    PageQuerySerializer,
    extend_schema,
)


class InvitationListView(ApiView):
    """All pending invitations."""

    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="invitations_list",
        tags=["users"],
        parameters=[PageQuerySerializer],
        responses={200: InvitationPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the pending invitations, newest first."""
        pages = PagePagination()
        found = pages.paginate(invitations(), request)
        return pages.response(list(InvitationSerializer(found, many=True).data))

    @extend_schema(
        operation_id="invitations_create",
        tags=["users"],
        request=InvitationChangesSerializer,
        responses={201: InvitationSerializer},
    )
    def post(self, request: Request) -> Response:
        """Invite the owner of an address to register, with a role up to the caller's own."""
        invitation = invitation_create(
            actor=current_user(request),
            **self.validated(InvitationChangesSerializer),
            request=request,
        )
        return Response(InvitationSerializer(invitation).data, status=201)


class InvitationView(ApiView):
    """One invitation."""

    permission_classes = (IsAdministrator,)

    @extend_schema(operation_id="invitations_revoke", tags=["users"], responses={204: None})
    def delete(self, request: Request, invitation_id: UUID) -> Response:
        """Revoke an invitation; its link stops working."""
        invitation_revoke(actor=current_user(request), invitation_id=invitation_id, request=request)
        return Response(status=204)


class InvitationResendView(ApiView):
    """A new mail for an invitation."""

    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="invitations_resend",
        tags=["users"],
        request=None,
        responses={200: InvitationSerializer, 400: ErrorSerializer, 403: ErrorSerializer},
    )
    def post(self, request: Request, invitation_id: UUID) -> Response:
        """Mail a new link, also for an expired invitation; the old link stops working."""
        invitation = invitation_resend(
            actor=current_user(request), invitation_id=invitation_id, request=request
        )
        return Response(InvitationSerializer(invitation).data)
