"""DRF authentication by access token.

Reads the session joined with its user in one query. Ending a session, deactivating or deleting a
user and changing a role therefore take effect at the next request. ``SESSION_IDLE_TIMEOUT`` adds an
update once a minute.
"""

from __future__ import annotations

from collections.abc import Callable
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
from .tokens import ACCESS, TokenClaims, may_be_own_token, read_token

__all__ = ["SessionTokenAuthentication"]

SCHEME = "Bearer"

ForeignTokens = Callable[[str, Request], Session]

_sessions = RowLookup(lambda: Session.objects.select_related("user"))
_foreign_tokens: ForeignTokens | None = None


def register_foreign_tokens(authenticate: ForeignTokens) -> None:
    """Register ``authenticate(token, request)`` for bearer tokens that were not issued here.

    It returns the live session of the token, joined with its user, and raises ``InvalidToken`` or
    another ``APIException``. An opt-in app calls this in ``ready()``.
    """
    global _foreign_tokens  # noqa: PLW0603 (set once, in ``ready()``)
    _foreign_tokens = authenticate


class SessionTokenAuthentication(BaseAuthentication):
    """Authenticate ``Authorization: Bearer <access token>``; ``request.auth`` is the live
    ``Session``.

    Without the header the request is anonymous. Any header value other than a valid access token is
    a 401. Specification: "Required Headers".
    """

    accept_expired = False

    def authenticate(self, request: Request) -> tuple[Any, Session] | None:
        token = self._token(request)
        if token is None:
            return None
        session = self._session(token, request)
        if session is None or not session.is_live or not session.user.is_active:
            raise InvalidToken
        view = (getattr(request, "parser_context", None) or {}).get("view")
        is_open = getattr(view, "open_without_second_factor", False)
        must_have_factor = session.user.role in auth_settings.MFA_REQUIRED_ROLES
        if must_have_factor and not session.second_factor and not is_open:
            if session.is_of_foreign_token:
                raise PermissionDenied(
                    _("Sign in at the provider with a second factor."), "mfa_required"
                )
            raise PermissionDenied(
                _("Your role must sign in with a second factor; set one up first."),
                "second_factor_required",
            )
        if not self.accept_expired:  # an old token must not keep its session alive
            session.record_use()
        return session.user, session

    def authenticate_header(self, request: Request) -> str:
        return SCHEME

    def authenticate_without_database(self, request: Request) -> tuple[Any, TokenClaims] | None:
        """Return user and claims of a valid token, else ``None``, while the database is down.

        The user is unsaved and has only its primary key.
        """
        with suppress(InvalidToken, ValueError):
            if token := self._token(request):
                claims = self._claims(token)
                return get_user_model()(pk=parse_user_id(claims.user_id)), claims
        return None

    def _session(self, token: str, request: Request) -> Session | None:
        if _foreign_tokens is not None and not may_be_own_token(token):
            return _foreign_tokens(token, request)
        claims = self._claims(token)
        session = _sessions.get(claims.session_id)
        is_of_user = session is not None and str(session.user_id) == claims.user_id
        return session if is_of_user else None

    def _claims(self, token: str) -> TokenClaims:
        return read_token(token, ACCESS, accept_expired=self.accept_expired)

    def _token(self, request: Request) -> str | None:
        scheme, _space, token = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        return token.strip() if scheme.lower() == SCHEME.lower() else None


class ExpiredTokenAuthentication(SessionTokenAuthentication):
    """Authentication that also accepts an expired access token, if its session is live.

    For logout only, because the front end never refreshes tokens by itself.
    """

    accept_expired = True
