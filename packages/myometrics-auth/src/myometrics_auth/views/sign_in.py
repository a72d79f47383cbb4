"""Sign in, register, refresh, sign out; reset a forgotten password."""

from __future__ import annotations

from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.authentication import ExpiredTokenAuthentication
from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import Session
from myometrics_auth.requests import current_user
from myometrics_auth.serializers import (
    DetailSerializer,
    LoginSerializer,
    PasswordResetConfirmSerializer,
    PasswordResetSerializer,
    ProfileSerializer,
    RefreshedTokensSerializer,
    RefreshTokenSerializer,
    RegisterSerializer,
    SecondFactorRequiredSerializer,
    SecondFactorSerializer,
    SignedInSerializer,
)
from myometrics_auth.services.passwords import password_reset_confirm, password_reset_request
from myometrics_auth.services.sessions import (
    session_end,
    session_end_by_refresh_token,
    session_refresh,
    session_start,
)
from myometrics_auth.services.sign_in import SignIn, sign_in, sign_in_with_second_factor
from myometrics_auth.services.users import registration_require, user_register
from myometrics_auth.tokens import REFRESH, access_token, read_token, refresh_token
from myometrics_core.api import (
    ApiView,
    ErrorSerializer,
    OneOfSerializer,
    PublicApiView,
    extend_schema,
)

LOGIN_FORM_RATE = "100/minute"
"""Of endpoints that every view of a login form, or of the account's page, calls."""
LOGIN_RESPONSE = OneOfSerializer("Login", SignedInSerializer, SecondFactorRequiredSerializer)


class LoginView(PublicApiView):
    """Specification: "POST /auth/login/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_login",
        tags=["auth"],
        request=LoginSerializer,
        responses={200: LOGIN_RESPONSE, 401: ErrorSerializer, 403: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return tokens and profile; with a second factor, a token for the second step instead."""
        return sign_in_response(sign_in(**self.validated(LoginSerializer), request=request))


class SecondFactorLoginView(PublicApiView):
    """The second step of a sign-in."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_login_mfa",
        tags=["auth"],
        request=SecondFactorSerializer,
        responses={200: SignedInSerializer, 401: ErrorSerializer, 403: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return tokens and profile for the token of the first step and a code."""
        body = self.validated(SecondFactorSerializer)
        token = body.pop("mfa_token")
        return signed_in_response(sign_in_with_second_factor(token=token, request=request, **body))


class RegisterView(PublicApiView):
    """Specification: "POST /auth/register/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_register",
        tags=["auth"],
        request=RegisterSerializer,
        responses={201: SignedInSerializer, 403: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create an account of the default role and sign it in.

        An invitation sets role and clinic. 403 `registration_closed`, or `email_not_verified` if
        the account is made and its address must be verified before the first sign-in.
        """
        registration_require()  # before the body is read
        user = user_register(**self.validated(RegisterSerializer), request=request)
        return signed_in_response(session_start(user=user, request=request), status=201)


class RefreshView(PublicApiView):
    """Specification: "POST /auth/token/refresh/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_token_refresh",
        tags=["auth"],
        request=RefreshTokenSerializer,
        responses={200: RefreshedTokensSerializer, 401: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return a new access token; with `ROTATE_REFRESH_TOKENS` also a new refresh token."""
        token = self.validated(RefreshTokenSerializer)["refresh"]
        tokens = session_refresh(token=token, request=request)
        body = {"access": tokens.access, "refresh": tokens.refresh}
        return Response({name: text for name, text in body.items() if text})

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
        """End the session of the refresh token; both its tokens are rejected from now on.

        With the access token of an identity provider, which needs no body, end its session.
        """
        if isinstance(request.auth, Session) and request.auth.is_of_foreign_token:
            session_end(user=current_user(request), session_id=request.auth.pk, request=request)
            return Response({"detail": _("Successfully logged out")})
        token = self.validated(RefreshTokenSerializer)["refresh"]
        session_end_by_refresh_token(user=current_user(request), token=token, request=request)
        return Response({"detail": _("Successfully logged out")})


class PasswordResetView(PublicApiView):
    """Specification: "POST /auth/password-reset/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_password_reset",
        tags=["auth"],
        request=PasswordResetSerializer,
        responses={200: DetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Mail a link to the account's address; the response is the same without an account."""
        password_reset_request(email=self.validated(PasswordResetSerializer)["email"])
        return Response({"detail": _("Password reset email sent")})


class PasswordResetConfirmView(PublicApiView):
    """Set the new password from the page that the mailed link opens."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_password_reset_confirm",
        tags=["auth"],
        request=PasswordResetConfirmSerializer,
        responses={200: DetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Set a new password by the link's ``uid`` and ``token``; every session ends."""
        password_reset_confirm(**self.validated(PasswordResetConfirmSerializer), request=request)
        return Response({"detail": _("Password has been reset")})


def sign_in_response(outcome: SignIn) -> Response:
    """Return tokens and profile, or the token for the second step."""
    if outcome.session is None:
        return Response({"mfa_required": True, "mfa_token": outcome.mfa_token})
    return signed_in_response(outcome.session)


def signed_in_response(session: Session, status: int = 200) -> Response:
    """Return tokens and profile; the specified response of every sign-in."""
    body = {
        "access": access_token(session),
        "refresh": refresh_token(session),
        "user": ProfileSerializer.read(session.user),
    }
    return Response(body, status=status)
