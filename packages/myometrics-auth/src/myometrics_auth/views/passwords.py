"""Change a password, or reset it by mail."""

from __future__ import annotations

from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.serializers import (
    ChangePasswordSerializer,
    DetailSerializer,
    PasswordResetConfirmSerializer,
    PasswordResetSerializer,
)
from myometrics_auth.services.passwords import (
    password_change,
    password_reset_confirm,
    password_reset_request,
)
from myometrics_core.api import ApiView, PublicApiView, extend_schema

from .responses import current_session, detail_response

__all__ = ["ChangePasswordView", "PasswordResetConfirmView", "PasswordResetView"]


class ChangePasswordView(ApiView):
    """Specification: "POST /auth/change-password/"."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_change_password",
        tags=["auth"],
        request=ChangePasswordSerializer,
        responses={200: DetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Set a new password; every other session ends, this one continues."""
        password_change(
            user=current_user(request),
            session=current_session(request),
            **self.validated(ChangePasswordSerializer),
            request=request,
        )
        return detail_response(_("Password changed successfully"))


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
        return detail_response(_("Password reset email sent"))


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
        return detail_response(_("Password has been reset"))
