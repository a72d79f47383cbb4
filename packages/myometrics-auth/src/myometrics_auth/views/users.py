"""User administration. Specification: "User Management Endpoints"."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.selectors import user_get, user_key, users_matching
from myometrics_auth.serializers import (
    AdminUserChangesSerializer,
    AdminUserSerializer,
    UserListQuerySerializer,
    UserPageSerializer,
)
from myometrics_auth.services.users import user_delete, user_update
from myometrics_core.api import (
    ApiView,
    ErrorSerializer,
    IsAdministrator,
    PagePagination,
    PageQuerySerializer,
    extend_schema,
)
from myometrics_core.users import user_id_schema

__all__ = ["UserListView", "UserView"]

PATH_ID = OpenApiParameter("user_id", user_id_schema(), OpenApiParameter.PATH)
USER_CHANGES: Final[dict[str, Any]] = {
    "tags": ["users"],
    "parameters": [PATH_ID],
    "request": AdminUserChangesSerializer(partial=True),
    "responses": {200: AdminUserSerializer, 409: ErrorSerializer},
}


class UserListView(ApiView):
    """Specification: "GET /users/"."""

    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="users_list",
        tags=["users"],
        parameters=[UserListQuerySerializer, PageQuerySerializer],
        responses={200: UserPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of users, by id."""
        users = users_matching(**self.validated_query(UserListQuerySerializer))
        pages = PagePagination()
        found = pages.paginate(users, request)
        return pages.response([AdminUserSerializer.read(user) for user in found])


class UserView(ApiView):
    """Specification: "GET /users/{id}/", "PUT /users/{id}/" and "DELETE /users/{id}/"."""

    permission_classes = (IsAdministrator,)

    @extend_schema(
        operation_id="users_get",
        tags=["users"],
        parameters=[PATH_ID],
        responses={200: AdminUserSerializer},
    )
    def get(self, request: Request, user_id: str) -> Response:
        """Return one user."""
        return Response(AdminUserSerializer.read(user_get(user_id=user_id)))

    @extend_schema(operation_id="users_put", **USER_CHANGES)
    def put(self, request: Request, user_id: str) -> Response:
        """Change a user; omitted fields stay unchanged. 409 for the last administrator."""
        user = user_update(
            actor=current_user(request),
            user_id=user_key(user_id),
            changes=self.validated(AdminUserChangesSerializer, partial=True),
            request=request,
        )
        return Response(AdminUserSerializer.read(user))

    @extend_schema(operation_id="users_patch", **USER_CHANGES)
    def patch(self, request: Request, user_id: str) -> Response:
        """Change a user; the same as PUT."""
        return self.put(request, user_id)

    @extend_schema(
        operation_id="users_delete",
        tags=["users"],
        parameters=[PATH_ID],
        responses={204: None, 409: ErrorSerializer},
    )
    def delete(self, request: Request, user_id: str) -> Response:
        """Erase a user and all stored data about them. 409 for the last administrator."""
        user_delete(actor=current_user(request), user_id=user_key(user_id), request=request)
        return Response(status=204)
