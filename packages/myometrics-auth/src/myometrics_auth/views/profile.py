"""One's own profile, data and account."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.serializers import ProfileChangesSerializer, ProfileSerializer
from myometrics_auth.services.users import user_erase_self, user_update_profile
from myometrics_core.api import MAX_AUTH_BODY_BYTES, ApiView, ErrorSerializer, extend_schema

__all__ = ["OwnAccountView", "ProfileView"]


class ProfileView(ApiView):
    """Specification: "GET /auth/user/" and "PUT /auth/user/"."""

    max_body_bytes = MAX_AUTH_BODY_BYTES
    open_without_second_factor = True

    @extend_schema(operation_id="auth_user_get", tags=["auth"], responses={200: ProfileSerializer})
    def get(self, request: Request) -> Response:
        """Return the signed-in user."""
        return Response(ProfileSerializer.read(request.user))

    @extend_schema(
        operation_id="auth_user_put",
        tags=["auth"],
        request=ProfileChangesSerializer(partial=True),
        responses={200: ProfileSerializer},
    )
    def put(self, request: Request) -> Response:
        """Change names and clinic; omitted and read-only fields stay unchanged."""
        changes = self.validated(ProfileChangesSerializer, partial=True)
        return Response(
            ProfileSerializer.read(user_update_profile(user=current_user(request), changes=changes))
        )

    @extend_schema(
        operation_id="auth_user_patch",
        tags=["auth"],
        request=ProfileChangesSerializer(partial=True),
        responses={200: ProfileSerializer},
    )
    def patch(self, request: Request) -> Response:
        """Change names and clinic; the same as PUT."""
        return self.put(request)


class OwnAccountView(ApiView):
    """Specification: "DELETE /users/me/"."""

    @extend_schema(
        operation_id="users_me_delete",
        tags=["users"],
        responses={204: None, 409: ErrorSerializer},
    )
    def delete(self, request: Request) -> Response:
        """Erase the caller's account and all stored data about it."""
        user_erase_self(user=current_user(request))
        return Response(status=204)
