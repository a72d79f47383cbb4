"""The caller's own account: profile, password, second factor, sessions, export, erasure."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.requests import current_user
from myometrics_auth.selectors import second_factor_state, sessions_of
from myometrics_auth.serializers import (
    ChangePasswordSerializer,
    CodeSerializer,
    DetailSerializer,
    ExportQuerySerializer,
    PasswordAndCodeSerializer,
    PasswordSerializer,
    ProfileChangesSerializer,
    ProfileSerializer,
    RecoveryCodesSerializer,
    SecondFactorStateSerializer,
    SessionPageSerializer,
    SessionSerializer,
    TotpSecretSerializer,
)
from myometrics_auth.services.browser import current_session
from myometrics_auth.services.passwords import password_change
from myometrics_auth.services.reauthentication import (
    ReauthenticationRequired,
    reauthentication_methods,
    recent_sign_in_require,
    session_reauthenticate,
)
from myometrics_auth.services.second_factor import (
    recovery_codes_replace,
    totp_confirm,
    totp_disable,
    totp_enrol,
)
from myometrics_auth.services.sessions import session_end, sessions_end_others
from myometrics_auth.services.users import user_erase_self, user_update_profile
from myometrics_core.api import (
    MAX_AUTH_BODY_BYTES,
    ApiView,
    ErrorSerializer,
    PagePagination,
    PageQuerySerializer,
    extend_schema,
)
from myometrics_core.http import download_response
from myometrics_core.personal_data import (
    deliver_export,
    export_chunks,
    export_filename,
    publish_export,
)

PROFILE_CHANGES: Final[dict[str, Any]] = {
    "tags": ["auth"],
    "request": ProfileChangesSerializer(partial=True),
    "responses": {200: ProfileSerializer},
}


class ProfileView(ApiView):
    """Specification: "GET /auth/user/" and "PUT /auth/user/"."""

    max_body_bytes = MAX_AUTH_BODY_BYTES
    open_without_second_factor = True

    @extend_schema(operation_id="auth_user_get", tags=["auth"], responses={200: ProfileSerializer})
    def get(self, request: Request) -> Response:
        """Return the signed-in user."""
        return Response(ProfileSerializer.read(request.user))

    @extend_schema(operation_id="auth_user_put", **PROFILE_CHANGES)
    def put(self, request: Request) -> Response:
        """Change names and clinic; omitted and read-only fields stay unchanged."""
        changes = self.validated(ProfileChangesSerializer, partial=True)
        user = user_update_profile(user=current_user(request), changes=changes)
        return Response(ProfileSerializer.read(user))

    @extend_schema(operation_id="auth_user_patch", **PROFILE_CHANGES)
    def patch(self, request: Request) -> Response:
        """Change names and clinic; the same as PUT."""
        return self.put(request)


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
        return Response({"detail": _("Password changed successfully")})


class ReauthenticateSerializer(serializers.Serializer[Any]):
    """One method of reauthentication; it has the fields of those that are registered."""

    def get_fields(self) -> dict[str, Any]:
        return {name: method.field() for name, method in reauthentication_methods().items()}


class ReauthenticateView(ApiView):
    """Confirmation of the caller's identity before a sensitive operation."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_reauthenticate",
        tags=["auth"],
        request=ReauthenticateSerializer,
        responses={200: DetailSerializer},
    )
    def post(self, request: Request) -> Response:
        """Confirm one's identity for ten minutes, by exactly one of the fields."""
        session_reauthenticate(
            user=current_user(request),
            session=current_session(request),
            proof=self.validated(ReauthenticateSerializer),
            request=request,
        )
        return Response({"detail": _("Identity confirmed")})


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
        recent_sign_in_require(session=current_session(request), operation="disable_mfa")
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
        recent_sign_in_require(session=current_session(request), operation="disable_mfa")
        body = self.validated(PasswordAndCodeSerializer)
        codes = recovery_codes_replace(user=current_user(request), **body, request=request)
        return Response({"recovery_codes": codes})


class SessionListView(ApiView):
    """The sessions of the caller."""

    max_body_bytes = MAX_AUTH_BODY_BYTES

    @extend_schema(
        operation_id="auth_sessions_list",
        tags=["auth"],
        parameters=[PageQuerySerializer],
        responses={200: SessionPageSerializer},
    )
    def get(self, request: Request) -> Response:
        """Return a page of the caller's live sessions, most recently used first."""
        pages = PagePagination()
        sessions = pages.paginate(sessions_of(user=current_user(request)), request)
        current = current_session(request)
        context = {"current": current.pk if current else None}
        return pages.response(list(SessionSerializer(sessions, many=True, context=context).data))

    @extend_schema(operation_id="auth_sessions_end_others", tags=["auth"], responses={204: None})
    def delete(self, request: Request) -> Response:
        """End every other session."""
        keep = current_session(request)
        sessions_end_others(user=current_user(request), keep=keep, request=request)
        return Response(status=204)


class SessionView(ApiView):
    """One session of the caller."""

    max_body_bytes = MAX_AUTH_BODY_BYTES

    @extend_schema(operation_id="auth_sessions_end", tags=["auth"], responses={204: None})
    def delete(self, request: Request, session_id: UUID) -> Response:
        """End a session immediately, with both its tokens; 404 if it is not a live one of the
        caller.
        """
        session_end(user=current_user(request), session_id=session_id, request=request)
        return Response(status=204)


class ExportView(ApiView):
    """Specification: "GET /users/me/export/"."""

    throttle_bucket = "export"

    def check_throttles(self, request: Request) -> None:
        """Count an export that needs a recent sign-in in ``api``: it returns no file."""
        try:
            recent_sign_in_require(session=current_session(request), operation="export")
        except ReauthenticationRequired:
            self.throttle_bucket = "api"  # type: ignore[misc]  # of this request only
        super().check_throttles(request)

    @extend_schema(
        operation_id="users_me_export",
        tags=["users"],
        parameters=[ExportQuerySerializer],
        responses={
            (200, "application/octet-stream"): OpenApiResponse(
                OpenApiTypes.BINARY, description="The file."
            ),
            202: OpenApiResponse(DetailSerializer, description="The file is delivered later."),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Export the user's data as an attachment, or by mail or another ``delivery`` (202)."""
        recent_sign_in_require(session=current_session(request), operation="export")
        user = current_user(request)
        query = self.validated_query(ExportQuerySerializer)
        kind, delivery = query["format"], query.get("delivery")
        sentence = deliver_export(delivery, user=user, export_format=kind) if delivery else ""
        publish_export(
            user=user, export_format=kind, delivery=delivery or "response", request=request
        )
        if delivery:
            return Response({"detail": sentence}, status=202)
        return download_response(request, export_chunks(user, kind), export_filename(kind))


class OwnAccountView(ApiView):
    """Specification: "DELETE /users/me/"."""

    @extend_schema(
        operation_id="users_me_delete", tags=["users"], responses={204: None, 409: ErrorSerializer}
    )
    def delete(self, request: Request) -> Response:
        """Erase the caller's account and all stored data about it."""
        recent_sign_in_require(session=current_session(request), operation="delete_account")
        user_erase_self(user=current_user(request))
        return Response(status=204)
