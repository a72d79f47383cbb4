"""The second factor: sign in with it, enrol, confirm, disable, new recovery codes."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.selectors import second_factor_state
from myometrics_auth.serializers import (
    CodeSerializer,
    PasswordAndCodeSerializer,
    PasswordSerializer,
    RecoveryCodesSerializer,
    SecondFactorSerializer,
    SecondFactorStateSerializer,
    SignedInSerializer,
    TotpSecretSerializer,
)
from myometrics_auth.services.second_factor_enrolment import (
    recovery_codes_replace,
    totp_confirm,
    totp_disable,
    totp_enrol,
)
from myometrics_auth.services.sign_in import sign_in_with_second_factor
from myometrics_core.schema import ErrorSerializer, extend_schema
from myometrics_core.views import ApiView, PublicApiView

from .answers import current_session, signed_in

__all__ = [
    "DisableView",
    "RecoveryCodesView",
    "SecondFactorLoginView",
    "SecondFactorView",
    "TotpConfirmView",
    "TotpEnrolView",
]


class SecondFactorLoginView(PublicApiView):
    """The second half of a sign-in."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_login_mfa",
        tags=["auth"],
        request=SecondFactorSerializer,
        responses={200: SignedInSerializer, 401: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Tokens and profile for the token of the first half and a code."""
        body = self.validated(SecondFactorSerializer)
        session = sign_in_with_second_factor(
            token=body["mfa_token"], code=body["code"], request=request
        )
        return signed_in(session)


class SecondFactorView(ApiView):
    """The signed-in person's second factor."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_mfa_get", tags=["auth"], responses={200: SecondFactorStateSerializer}
    )
    def get(self, request: Request) -> Response:
        """Whether there is one, whether there must be, and how many recovery codes are left."""
        return Response(second_factor_state(user=request.user))


class DisableView(ApiView):
    """Doing without the second factor again."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_mfa_disable",
        tags=["auth"],
        request=PasswordAndCodeSerializer,
        responses={204: None, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Take it out of use."""
        body = self.validated(PasswordAndCodeSerializer)
        totp_disable(user=request.user, **body, request=request)
        return Response(status=204)


class TotpEnrolView(ApiView):
    """First step: a secret for the app."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_mfa_enrol",
        tags=["auth"],
        request=PasswordSerializer,
        responses={201: TotpSecretSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """A new secret; it counts once a code of it is confirmed."""
        body = self.validated(PasswordSerializer)
        secret, address = totp_enrol(user=request.user, **body, request=request)
        return Response({"secret": secret, "otpauth_url": address}, status=201)


class TotpConfirmView(ApiView):
    """Second step: the app's first code."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_mfa_confirm",
        tags=["auth"],
        request=CodeSerializer,
        responses={200: RecoveryCodesSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Put the app into use; other sessions end. Recovery codes, shown this once."""
        codes = totp_confirm(
            user=request.user,
            session=current_session(request),
            **self.validated(CodeSerializer),
            request=request,
        )
        return Response({"recovery_codes": codes})


class RecoveryCodesView(ApiView):
    """New recovery codes for those used up or lost."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_mfa_recovery_codes",
        tags=["auth"],
        request=PasswordAndCodeSerializer,
        responses={200: RecoveryCodesSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Ten new codes, shown this once; the old ones are void."""
        body = self.validated(PasswordAndCodeSerializer)
        codes = recovery_codes_replace(user=request.user, **body, request=request)
        return Response({"recovery_codes": codes})
