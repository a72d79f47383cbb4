"""The caller's second factor: enrol, confirm, disable, replace recovery codes."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.selectors import second_factor_state
from myometrics_auth.serializers import (
    CodeSerializer,
    PasswordAndCodeSerializer,
    PasswordSerializer,
    RecoveryCodesSerializer,
    SecondFactorStateSerializer,
    TotpSecretSerializer,
)
from myometrics_auth.services.browser_sessions import current_session
from myometrics_auth.services.second_factor import (
    recovery_codes_replace,
    totp_confirm,
    totp_disable,
    totp_enrol,
)
from myometrics_core.api import ApiView, ErrorSerializer, extend_schema

__all__ = [
    "DisableView",
    "RecoveryCodesView",
    "SecondFactorView",
    "TotpConfirmView",
    "TotpEnrolView",
]


class SecondFactorView(ApiView):
    """The caller's second factor."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_mfa_get", tags=["auth"], responses={200: SecondFactorStateSerializer}
    )
    def get(self, request: Request) -> Response:
        """Return whether a second factor is enabled and required, and the recovery codes left."""
        return Response(second_factor_state(user=current_user(request)))


class DisableView(ApiView):
    """Disabling the second factor."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_mfa_disable",
        tags=["auth"],
        request=PasswordAndCodeSerializer,
        responses={204: None, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Disable the second factor."""
        body = self.validated(PasswordAndCodeSerializer)
        totp_disable(user=current_user(request), **body, request=request)
        return Response(status=204)


class TotpEnrolView(ApiView):
    """First step of enrolment: a secret for the app."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_mfa_enrol",
        tags=["auth"],
        request=PasswordSerializer,
        responses={201: TotpSecretSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Create a new secret; it is required once one of its codes is confirmed."""
        body = self.validated(PasswordSerializer)
        secret, address = totp_enrol(user=current_user(request), **body, request=request)
        return Response({"secret": secret, "otpauth_url": address}, status=201)


class TotpConfirmView(ApiView):
    """Second step of enrolment: the app's first code."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_mfa_confirm",
        tags=["auth"],
        request=CodeSerializer,
        responses={200: RecoveryCodesSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Confirm the app; other sessions end. Returns recovery codes, only this once."""
        codes = totp_confirm(
            user=current_user(request),
            session=current_session(request),
            **self.validated(CodeSerializer),
            request=request,
        )
        return Response({"recovery_codes": codes})


class RecoveryCodesView(ApiView):
    """Replacement of recovery codes."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_mfa_recovery_codes",
        tags=["auth"],
        request=PasswordAndCodeSerializer,
        responses={200: RecoveryCodesSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return ten new codes, only this once; the old ones become invalid."""
        body = self.validated(PasswordAndCodeSerializer)
        codes = recovery_codes_replace(user=current_user(request), **body, request=request)
        return Response({"recovery_codes": codes})
