"""The caller's sessions: list them, and sign out elsewhere."""

from __future__ import annotations

from uuid import UUID

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.selectors import sessions_of
from myometrics_auth.serializers import (
    SessionPageSerializer,
    SessionSerializer,
)
from myometrics_auth.services.sessions import session_end, sessions_end_others
from myometrics_core.api import (
    MAX_AUTH_BODY_BYTES,
    ApiView,
    PagePagination,
    PageQuerySerializer,
    extend_schema,
)

from .responses import current_session

__all__ = ["SessionListView", "SessionView"]


class SessionListView(ApiView):
    """The sessions of the signed-in user."""

    max_body_bytes = MAX_AUTH_BODY_BYTES

    @extend_schema(
        operation_id="auth_sessions_list",
        tags=["auth"],
        parameters=[PageQuerySerializer],
        responses={200: SessionPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the caller's live sessions, most recently used first."""
        pages = PagePagination()
        sessions = pages.paginate(sessions_of(user=current_user(request)), request)
        current = current_session(request)
        context = {"current": current.pk if current else None}
        return pages.response(list(SessionSerializer(sessions, many=True, context=context).data))

    @extend_schema(operation_id="auth_sessions_end_others", tags=["auth"], responses={204: None})
    def delete(self, request: Request) -> Response:
        """End every other session."""
        sessions_end_others(
            user=current_user(request), keep=current_session(request), request=request
        )
        return Response(status=204)


class SessionView(ApiView):
    """One session of the signed-in user."""

    max_body_bytes = MAX_AUTH_BODY_BYTES

    @extend_schema(operation_id="auth_sessions_end", tags=["auth"], responses={204: None})
    def delete(self, request: Request, session_id: UUID) -> Response:
        """End a session immediately, with both its tokens; 404 if it is not a live one of the
        caller.
        """
        session_end(user=current_user(request), session_id=session_id, request=request)
        return Response(status=204)
