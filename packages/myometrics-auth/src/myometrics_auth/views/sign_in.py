"""Sign in, register, refresh, sign out."""

from __future__ import annotations

from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.authentication import ExpiredTokenAuthentication
from myometrics_auth.requests import current_user
from myometrics_auth.serializers import (
    AccessTokenSerializer,
    DetailSerializer,
    LoginSerializer,
    RefreshTokenSerializer,
    RegisterSerializer,
    SecondFactorRequiredSerializer,
    SignedInSerializer,
)
from myometrics_auth.services.sessions import (
    session_end_by_refresh_token,
    session_refresh,
    session_start,
)
from myometrics_auth.services.sign_in import sign_in
from myometrics_auth.services.users import user_register
from myometrics_auth.tokens import REFRESH, InvalidToken, read_token
from myometrics_core.api import (
    ApiView,
    ErrorSerializer,
    OneOfSerializer,
    PublicApiView,
    extend_schema,
)

from .responses import detail_response, signed_in_response

__all__ = ["LoginView", "LogoutView", "RefreshView", "RegisterView"]

LOGIN_RESPONSE = OneOfSerializer("Login", SignedInSerializer, SecondFactorRequiredSerializer)


class LoginView(PublicApiView):
    """Specification: "POST /auth/login/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_login",
        tags=["auth"],
        request=LoginSerializer,
        responses={200: LOGIN_RESPONSE, 401: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return tokens and profile; with a second factor, a token for the second step instead."""
        outcome = sign_in(**self.validated(LoginSerializer), request=request)
        if outcome.session is None:
            return Response({"mfa_required": True, "mfa_token": outcome.mfa_token})
        return signed_in_response(outcome.session)


class RegisterView(PublicApiView):
    """Specification: "POST /auth/register/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_register",
        tags=["auth"],
        request=RegisterSerializer,
        responses={201: SignedInSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create an account of the default role and sign it in."""
        user = user_register(**self.validated(RegisterSerializer))
        return signed_in_response(session_start(user=user, request=request), status=201)


class RefreshView(PublicApiView):
    """Specification: "POST /auth/token/refresh/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_token_refresh",
        tags=["auth"],
        request=RefreshTokenSerializer,
        responses={200: AccessTokenSerializer, 401: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return a new access token; the refresh token stays unchanged."""
        token = self.validated(RefreshTokenSerializer)["refresh"]
        return Response({"access": session_refresh(token=token)})

    def rate_limit_identity(self, request: Request) -> str | None:
        """Return the session of a validly signed token; otherwise the address is counted."""
        body = request.data
        token = body.get("refresh") if isinstance(body, dict) else None
        if not isinstance(token, str):
            return None
        try:
            return f"session:{read_token(token, REFRESH).session_id}"
        except InvalidToken:
            return None


class LogoutView(ApiView):
    """Specification: "POST /auth/logout/"."""

    authentication_classes = (ExpiredTokenAuthentication,)
    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_logout",
        tags=["auth"],
        request=RefreshTokenSerializer,
        responses={200: DetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """End the session of the refresh token; both its tokens are rejected from now on."""
        token = self.validated(RefreshTokenSerializer)["refresh"]
        session_end_by_refresh_token(user=current_user(request), token=token, request=request)
        return detail_response(_("Successfully logged out"))
