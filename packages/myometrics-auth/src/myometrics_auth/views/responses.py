"""Responses shared by several endpoints, and the session of a request."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.models import Session
from myometrics_auth.serializers import ProfileSerializer
from myometrics_auth.services.browser_sessions import browser_session
from myometrics_auth.tokens import access_token, refresh_token
from myometrics_core.http import http_request

__all__ = ["current_session", "detail_response", "signed_in_response"]


def detail_response(message: str) -> Response:
    """Return a 200 with a message."""
    return Response({"detail": message})


def signed_in_response(session: Session, status: int = 200) -> Response:
    """Return both tokens of a new session, and its user."""
    body = {
        "access": access_token(session),
        "refresh": refresh_token(session),
        "user": ProfileSerializer.read(session.user),
    }
    return Response(body, status=status)


def current_session(request: Request) -> Session | None:
    """Return the session of the request's token, or of its browser if the site accepts those.

    ``None`` if the site itself authenticated the user.
    """
    if isinstance(request.auth, Session):
        return request.auth
    return browser_session(http_request(request))
