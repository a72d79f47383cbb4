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
from myometrics_auth.services.browser import current_session
from myometrics_auth.services.reauthentication import recent_sign_in_require
from myometrics_auth.services.users import user_delete, user_update
from myometrics_core.api import (
    ApiView,
    ErrorSerializer,
    IsAdministrator,
    PagePagination,
    PageQuerySerializer,
    extend_schema,
)
from myometrics_core.events import publish_read
from myometrics_core.users import user_id_json, user_id_schema

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
        query = self.validated_query(UserListQuerySerializer)
        users = users_matching(**query)
        pages = PagePagination()
        found = pages.paginate(users, request)
        # The names only: a search text can be personal data.
        _publish_read(request, "users_listed", "list", filters=sorted(query))
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
        user = user_get(user_id=user_id)
        _publish_read(request, "user_viewed", str(user_id_json(user.pk)))
        return Response(AdminUserSerializer.read(user))

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
        recent_sign_in_require(session=current_session(request), operation="delete_account")
        user_delete(actor=current_user(request), user_id=user_key(user_id), request=request)
        return Response(status=204)


def _publish_read(request: Request, action: str, resource_id: str, **details: Any) -> None:
    publish_read(
        "users",
        actor_id=request.user.pk,
        action=action,
        resource=("user", resource_id),
        request=request,
        details=details,
    )
