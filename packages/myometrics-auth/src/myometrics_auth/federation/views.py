"""Endpoints of the sign-in with identity providers."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.utils import translation
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.parsers import FormParser
from rest_framework.request import Request
from rest_framework.response import Response

from myometrics_auth.conf import auth_settings
from myometrics_auth.requests import current_user
from myometrics_auth.serializers import DetailSerializer
from myometrics_auth.services.browser import current_session
from myometrics_auth.services.reauthentication import (
    ReauthenticationRequired,
    is_recent_sign_in,
)
from myometrics_auth.views.sign_in import LOGIN_FORM_RATE, LOGIN_RESPONSE, sign_in_response
from myometrics_core.api import (
    MAX_AUTH_BODY_BYTES,
    ApiView,
    ErrorSerializer,
    LinkQuerySerializer,
    PublicApiView,
    PublicPageView,
    extend_schema,
)

from .back_channel import provider_logout
from .flows import flow_finish, flow_start, redirect_uri_problem
from .identities import identities_of, identity_link, identity_unlink
from .link_requests import link_request_confirm, link_request_get
from .models import LinkRequest
from .providers import get_provider, providers
from .serializers import (
    AuthorizationSerializer,
    AuthorizeSerializer,
    CallbackSerializer,
    IdentityLinkSerializer,
    IdentitySerializer,
    LogoutTokenSerializer,
    ProviderSerializer,
    ProviderTokenSerializer,
)
from .sign_in import sign_in_with_access_token, sign_in_with_id_token

LOGOUT_RATE = "1000/minute"
REFUSED = {401: ErrorSerializer, 403: ErrorSerializer, 503: ErrorSerializer}


class ProviderListView(PublicApiView):
    """The providers that the site offers."""

    throttle_rate = LOGIN_FORM_RATE
    max_body_bytes = MAX_AUTH_BODY_BYTES

    @extend_schema(
        operation_id="auth_providers",
        tags=["auth"],
        responses={200: ProviderSerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """List the identity providers with which users can sign in."""
        return Response([{"slug": one.slug, "name": one.name} for one in providers()])


class AuthorizeView(PublicApiView):
    """The beginning of a sign-in at a provider."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_provider_authorize",
        tags=["auth"],
        request=AuthorizeSerializer,
        responses={200: AuthorizationSerializer, 503: ErrorSerializer},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Return the provider's URL to send the user to, and a secret for ``callback/``."""
        provider = get_provider(slug)
        body = self.validated(AuthorizeSerializer)
        if problem := redirect_uri_problem(body["redirect_uri"]):
            raise ValidationError({"redirect_uri": [problem]})
        url, flow = flow_start(provider=provider, **body)
        return Response({"authorization_url": url, "flow": flow})


class CallbackView(PublicApiView):
    """The end of a sign-in at a provider."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_provider_callback",
        tags=["auth"],
        request=CallbackSerializer,
        responses={200: LOGIN_RESPONSE, **REFUSED},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Sign in with the code that the provider has sent to the front end.

        403 `reauthentication_required` if `authorize/` asked for a new sign-in and there was none.
        """
        provider, body = get_provider(slug), self.validated(CallbackSerializer)
        return sign_in_response(flow_finish(provider=provider, **body, request=request))


class ProviderTokenView(PublicApiView):
    """Exchange of a provider's token for ours."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_provider_token",
        tags=["auth"],
        request=ProviderTokenSerializer,
        responses={200: LOGIN_RESPONSE, **REFUSED},
    )
    def post(self, request: Request, slug: str) -> Response:
        """Sign in with an ID token, which is accepted once, or an access token of the provider."""
        provider, body = get_provider(slug), self.validated(ProviderTokenSerializer)
        sign_in = sign_in_with_id_token if "id_token" in body else sign_in_with_access_token
        return sign_in_response(sign_in(provider=provider, **body, request=request))


class ProviderLogoutView(PublicApiView):
    """OpenID Connect Back-Channel Logout 1.0: called by the provider."""

    throttle_rate = LOGOUT_RATE
    max_body_bytes = MAX_AUTH_BODY_BYTES

    def get_parsers(self) -> list[Any]:
        return [FormParser()]

    @extend_schema(
        operation_id="auth_provider_logout",
        tags=["auth"],
        request={"application/x-www-form-urlencoded": LogoutTokenSerializer},
        responses={200: DetailSerializer, 503: ErrorSerializer},
    )
    def post(self, request: Request, slug: str) -> Response:
        """End the sessions that a logout token of the provider names."""
        provider = get_provider(slug)
        token = self.validated(LogoutTokenSerializer)["logout_token"]
        provider_logout(provider=provider, logout_token=token, request=request)
        return Response({"detail": translation.gettext("Successfully logged out")})


class IdentityListView(ApiView):
    """The caller's accounts at identity providers."""

    throttle_bucket = "auth"

    @property
    def throttle_rate(self) -> str | None:  # type: ignore[override]
        return None if self.request.method == "POST" else LOGIN_FORM_RATE

    @extend_schema(
        operation_id="auth_identities",
        tags=["auth"],
        responses={200: IdentitySerializer(many=True)},
    )
    def get(self, request: Request) -> Response:
        """List the caller's accounts at identity providers."""
        identities = identities_of(user=current_user(request))
        return Response([IdentitySerializer.read(identity) for identity in identities])

    @extend_schema(
        operation_id="auth_identity_link",
        tags=["auth"],
        request=IdentityLinkSerializer,
        responses={201: IdentitySerializer, 409: ErrorSerializer, 503: ErrorSerializer},
    )
    def post(self, request: Request) -> Response:
        """Link the account of an ID token to the caller; needs a recent sign-in."""
        body = self.validated(IdentityLinkSerializer)
        session = current_session(request)
        # Like a passkey, the identity signs in on its own from then on.
        if not is_recent_sign_in(session):
            raise ReauthenticationRequired
        try:
            provider = get_provider(body["provider"])
        except NotFound as error:
            raise ValidationError({"provider": [error.detail]}) from error
        identity = identity_link(
            user=current_user(request),
            session=session,
            provider=provider,
            id_token=body["id_token"],
            request=request,
        )
        return Response(IdentitySerializer.read(identity), status=201)


class IdentityView(ApiView):
    """One of the caller's accounts at identity providers."""

    throttle_bucket = "auth"

    @extend_schema(
        operation_id="auth_identity_unlink",
        tags=["auth"],
        responses={204: None, 404: ErrorSerializer, 409: ErrorSerializer},
    )
    def delete(self, request: Request, identity_id: int) -> Response:
        """Unlink an account and end its sessions; 409 for the last way to sign in."""
        identity_unlink(user=current_user(request), identity_id=identity_id, request=request)
        return Response(status=204)


class IdentityLinkPageView(PublicPageView):
    """Target of the mail that links an identity to the account of its address."""

    def get(self, request: Request) -> HttpResponse:
        """Return a page with a button that links it."""
        return self._page(link_request_get(self._token()), linked=False)

    def post(self, request: Request) -> HttpResponse:
        """Link it and verify the address."""
        return self._page(link_request_confirm(token=self._token(), request=request), linked=True)

    def _token(self) -> str:
        return str(self.validated_query(LinkQuerySerializer)["token"])

    def _page(self, row: LinkRequest, *, linked: bool) -> HttpResponse:
        names = {provider.slug: provider.name for provider in providers()}
        context = {"provider": names.get(row.provider, row.provider), "linked": linked}
        with translation.override(auth_settings.RECIPIENT_LANGUAGE(row.user)):
            return self.page("myometrics_auth/federation/link.html", context)
