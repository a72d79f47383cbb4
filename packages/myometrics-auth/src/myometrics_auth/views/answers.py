"""Answers that several endpoints give."""

from __future__ import annotations

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.models import Session
from myometrics_auth.serializers import AdminUserSerializer, ProfileSerializer
from myometrics_auth.services.browser_sessions import browser_session
from myometrics_auth.tokens import access_token, refresh_token
from myometrics_core.requests import http_request

__all__ = ["admin_user_json", "current_session", "detail", "profile_json", "signed_in"]


def profile_json(user: Any) -> dict[str, Any]:
    """A user as they see themselves."""
    return ProfileSerializer.read(user)


def admin_user_json(user: Any) -> dict[str, Any]:
    """A user as administrators see them."""
    return AdminUserSerializer.read(user)


def detail(sentence: Any) -> Response:
    """200 with one sentence."""
    return Response({"detail": sentence})


def signed_in(session: Session, status: int = 200) -> Response:
    """Both tokens of a new session, and its user."""
    body = {
        "access": access_token(session),
        "refresh": refresh_token(session),
        "user": profile_json(session.user),
    }
    return Response(body, status=status)


def current_session(request: Request) -> Session | None:
    """The session of the request's token, or of its browser where the host accepts those.

    ``None`` where the host has signed the user in.
    """
    if isinstance(request.auth, Session):
        return request.auth
    return browser_session(http_request(request))
