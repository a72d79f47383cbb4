"""Passkeys of the caller, and sign-in with a passkey."""

from __future__ import annotations

from uuid import UUID

from django.utils.translation import gettext as _
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.serializers import SignedInSerializer
from myometrics_auth.services.browser import current_session
from myometrics_auth.views.sign_in import LOGIN_FORM_RATE, signed_in_response
from myometrics_core.api import (
    MAX_AUTH_BODY_BYTES,
    ApiView,
    ErrorSerializer,
    PublicApiView,
    extend_schema,
)

from .conf import allowed_origins
from .selectors import passkeys_of
from .serializers import (
    NewPasskeySerializer,
    PasskeyChangesSerializer,
    PasskeyOptionsSerializer,
    PasskeyRegisteredSerializer,
    PasskeySerializer,
    RegistrationOptionsRequestSerializer,
    SignInOptionsRequestSerializer,
    SignInWithPasskeySerializer,
)
from .services import (
    passkey_begin_registration,
    passkey_begin_second_factor,
    passkey_begin_sign_in,
    passkey_register,
    passkey_remove,
    passkey_rename,
    passkey_sign_in,
)


class PasskeyListView(ApiView):
    """The passkeys of the caller."""

    throttle_rate = LOGIN_FORM_RATE
    max_body_bytes = MAX_AUTH_BODY_BYTES
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_passkeys_list",
        tags=["auth"],
        responses={200: PasskeySerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """Return the caller's passkeys, oldest first."""
        passkeys = passkeys_of(user=current_user(request))
        return Response([PasskeySerializer.read(passkey) for passkey in passkeys])


class PasskeyView(ApiView):
    """One passkey of the caller."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_passkeys_rename",
        tags=["auth"],
        request=PasskeyChangesSerializer,
        responses={200: PasskeySerializer},
    )
    def patch(self, request: Request, passkey_id: UUID) -> Response:
        """Rename a passkey; 404 if it is not one of the caller."""
        body = self.validated(PasskeyChangesSerializer)
        passkey = passkey_rename(user=current_user(request), passkey_id=passkey_id, **body)
        return Response(PasskeySerializer.read(passkey))

    @extend_schema(
        operation_id="auth_passkeys_remove",
        tags=["auth"],
        responses={204: None, 409: ErrorSerializer},
    )
    def delete(self, request: Request, passkey_id: UUID) -> Response:
        """Remove a passkey; with the last second factor the recovery codes are deleted, too."""
        passkey_remove(
            user=current_user(request),
            session=current_session(request),
            passkey_id=passkey_id,
            request=request,
        )
        return Response(status=204)


class PasskeyRegistrationOptionsView(ApiView):
    """First step of a registration."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_passkeys_register_options",
        tags=["auth"],
        request=RegistrationOptionsRequestSerializer,
        responses={200: PasskeyOptionsSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return the options for creating a passkey; needs the password or a recent sign-in."""
        body = self.validated(RegistrationOptionsRequestSerializer)
        options = passkey_begin_registration(
            user=current_user(request),
            session=current_session(request),
            password=body.get("password"),
            request=request,
        )
        return Response({"publicKey": options})


class PasskeyRegistrationView(ApiView):
    """Second step of a registration."""

    throttle_bucket = "auth"
    open_without_second_factor = True

    @extend_schema(
        operation_id="auth_passkeys_register_verify",
        tags=["auth"],
        request=NewPasskeySerializer,
        responses={201: PasskeyRegisteredSerializer, 409: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Store a new passkey; the first second factor ends other sessions.

        Returns recovery codes with the first second factor, only this once.
        """
        body = self.validated(NewPasskeySerializer)
        passkey, codes = passkey_register(
            user=current_user(request),
            session=current_session(request),
            credential=body["passkey"],
            name=body.get("name") or _("Passkey"),
            origins=allowed_origins(),
            request=request,
        )
        return Response({**PasskeySerializer.read(passkey), "recovery_codes": codes}, status=201)


class PasskeySignInOptionsView(PublicApiView):
    """First step of a sign-in."""

    throttle_rate = LOGIN_FORM_RATE
    max_body_bytes = MAX_AUTH_BODY_BYTES

    @extend_schema(
        operation_id="auth_login_passkey_options",
        tags=["auth"],
        request=SignInOptionsRequestSerializer,
        responses={
            200: PasskeyOptionsSerializer,
            401: ErrorSerializer,
            409: ErrorSerializer,
        },
    )
    def post(self, request: Request) -> Response:
        """Return the options for any passkey, or with `mfa_token` for those of its user."""
        token = self.validated(SignInOptionsRequestSerializer).get("mfa_token")
        options = (
            passkey_begin_sign_in() if token is None else passkey_begin_second_factor(token=token)
        )
        return Response({"publicKey": options})


class PasskeySignInView(PublicApiView):
    """Second step of a sign-in."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_login_passkey_verify",
        tags=["auth"],
        request=SignInWithPasskeySerializer,
        responses={200: SignedInSerializer, 401: ErrorSerializer, 403: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Return tokens and profile for a passkey that verified its user."""
        credential = self.validated(SignInWithPasskeySerializer)["passkey"]
        session = passkey_sign_in(credential=credential, origins=allowed_origins(), request=request)
        return signed_in_response(session)
