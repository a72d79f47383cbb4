"""Responses shared by several endpoints."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.models import Session
from myometrics_auth.serializers import AdminUserSerializer, ProfileSerializer
from myometrics_auth.services.browser_sessions import browser_session
from myometrics_auth.tokens import access_token, refresh_token
from myometrics_core.http import http_request

__all__ = ["admin_user_json", "current_session", "detail", "profile_json", "signed_in"]


def profile_json(user: Any) -> dict[str, Any]:
    """Return a user's own profile."""
    return ProfileSerializer.read(user)


def admin_user_json(user: Any) -> dict[str, Any]:
    """Return a user as shown to administrators."""
    return AdminUserSerializer.read(user)


def detail(sentence: Any) -> Response:
    """Return a 200 with a message."""
    return Response({"detail": sentence})


def signed_in(session: Session, status: int = 200) -> Response:
    """Return both tokens of a new session, and its user."""
    body = {
        "access": access_token(session),
        "refresh": refresh_token(session),
        "user": profile_json(session.user),
    }
    return Response(body, status=status)


def current_session(request: Request) -> Session | None:
    """Return the session of the request's token, or of its browser if the site accepts those.

    ``None`` if the site itself authenticated the user.
    """
    if isinstance(request.auth, Session):
        return request.auth
    return browser_session(http_request(request))
