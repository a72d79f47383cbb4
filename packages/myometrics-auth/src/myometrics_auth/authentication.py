"""DRF authentication by access token.

Reads the session joined with its user in one query. Ending a session, deactivating or deleting a
user and changing a role therefore take effect at the next request.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.contrib.auth import get_user_model
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request

from myometrics_core.db import RowLookup
from myometrics_core.users import parse_user_id

from .conf import auth_settings
from .errors import InvalidToken
from .models import Session
from .tokens import ACCESS, TokenClaims, read_token

__all__ = ["ExpiredTokenAuthentication", "SessionTokenAuthentication"]

SCHEME = "Bearer"

_sessions = RowLookup(lambda: Session.objects.select_related("user"))


class SessionTokenAuthentication(BaseAuthentication):
    """Authenticate ``Authorization: Bearer <access token>``; ``request.auth`` is the live
    ``Session``.

    Without the header the request is anonymous. Any header value other than a valid access token is
    a 401. Specification: "Required Headers".
    """

    accept_expired = False

    def authenticate(self, request: Request) -> tuple[Any, Session] | None:
        claims = self._claims(request)
        if claims is None:
            return None
        session = _sessions.get(claims.session_id)
        if session is None or not session.is_live or not session.user.is_active:
            raise InvalidToken
        if str(session.user_id) != claims.user_id:
            raise InvalidToken
        view = (getattr(request, "parser_context", None) or {}).get("view")
        is_open = getattr(view, "open_without_second_factor", False)
        must_have_factor = session.user.role in auth_settings.MFA_REQUIRED_ROLES
        if must_have_factor and not session.second_factor and not is_open:
            raise PermissionDenied(
                _("Your role must sign in with a second factor; set one up first."),
                "second_factor_required",
            )
        return session.user, session

    def authenticate_header(self, request: Request) -> str:
        return SCHEME

    def authenticate_without_database(self, request: Request) -> tuple[Any, TokenClaims] | None:
        """Return user and claims of a valid token, else ``None``, while the database is down.

        The user is unsaved and has only its primary key.
        """
        with suppress(InvalidToken, ValueError):
            if claims := self._claims(request):
                return get_user_model()(pk=parse_user_id(claims.user_id)), claims
        return None

    def _claims(self, request: Request) -> TokenClaims | None:
        scheme, _space, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        if scheme.lower() != SCHEME.lower():
            return None
        return read_token(token.strip(), ACCESS, accept_expired=self.accept_expired)


class ExpiredTokenAuthentication(SessionTokenAuthentication):
    """Authentication that also accepts an expired access token, if its session is live.

    For logout only, because the front end never refreshes tokens by itself.
    """

    accept_expired = True
