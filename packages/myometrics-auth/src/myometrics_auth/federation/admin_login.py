"""Sign-in to the admin site with an identity provider."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from rest_framework.exceptions import APIException, NotFound, ValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.services.browser import browser_attach, browser_backend, browser_suspend
from myometrics_auth.views.admin_login import AdminSignInView
from myometrics_core.db import atomic_write

from .claims import Claims
from .conf import Provider
from .flows import flow_start, flow_take
from .models import Identity
from .providers import get_provider, providers
from .provisioning import identity_resolve, sign_in_refused
from .sign_in import require_unused, sign_in_by_identity

PENDING: Final = "_myometrics_auth_provider"
"""Key in the Django session: a sign-in at a provider that is not finished."""


def login_options(site: AdminSite, target: str) -> list[dict[str, str]]:
    """Return name and URL of each provider, for the login page; ``target`` is its ``next``."""
    query = f"?{urlencode({'next': target})}" if target else ""
    return [
        {
            "name": provider.name,
            "url": reverse("admin:login_provider", args=[provider.slug], current_app=site.name)
            + query,
        }
        for provider in providers()
    ]


class AdminProviderView(AdminSignInView):
    """Sends the browser to the provider. A link, because policies restrict targets of forms."""

    counted_methods = frozenset({"GET"})
    http_method_names = ["get"]
    slug = ""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        provider = _provider(self.slug)
        callback = reverse(
            "admin:login_provider_callback", args=[provider.slug], current_app=self.site.name
        )
        try:
            url, flow = flow_start(
                provider=provider, redirect_uri=request.build_absolute_uri(callback)
            )
        except APIException as error:
            return self.refuse(error)
        request.session[PENDING] = {"flow": flow, "next": self.get_redirect_url()}
        return HttpResponseRedirect(url)

    def refuse(self, error: APIException) -> HttpResponse:
        """Show the login page with the reason."""
        detail: Any = error.detail
        if isinstance(error, ValidationError):
            detail = next(iter(detail.values()))[0]
        messages.error(self.request, str(detail))
        return self.go_to("admin:login")


class AdminProviderCallbackView(AdminProviderView):
    """The provider sends the browser back here."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        provider = _provider(self.slug)
        pending = request.session.pop(PENDING, None)
        if pending is None:
            return self.go_to("admin:login")
        try:
            claims, id_token = flow_take(
                provider=provider,
                code=request.GET.get("code", ""),
                state=request.GET.get("state", ""),
                flow=pending["flow"],
            )
            require_unused(id_token)
            identity = identity_resolve(claims=claims, request=request)
            self._require_access(identity, claims)
            return self._sign_in(identity, claims, id_token, pending["next"])
        except APIException as error:
            return self.refuse(error)

    def _require_access(self, identity: Identity, claims: Claims) -> None:
        user = identity.user
        if not self.site.may_sign_in(user):  # type: ignore[attr-defined]
            raise sign_in_refused("access_not_allowed", claims, self.request, email=user.email)
        is_required = user.role in auth_settings.MFA_REQUIRED_ROLES
        if is_required and not (claims.has_second_factor or has_second_factor(user)):
            raise sign_in_refused("mfa_required", claims, self.request, email=user.email)

    def _sign_in(
        self, identity: Identity, claims: Claims, id_token: str, target: str
    ) -> HttpResponse:
        backend = browser_backend(identity.user)
        with atomic_write():
            outcome = sign_in_by_identity(
                identity=identity,
                claims=claims,
                request=self.request,
                id_token=id_token,
                in_browser=True,
            )
            if outcome.session is not None:
                browser_attach(session=outcome.session, backend=backend, request=self.request)
        if outcome.session is None:
            browser_suspend(self.request, {"mfa_token": outcome.mfa_token, "backend": backend})
            query = f"?{urlencode({'next': target})}" if target else ""
            return HttpResponseRedirect(self.page("admin:login_second_factor") + query)
        return HttpResponseRedirect(target or self.get_default_redirect_url())


def _provider(slug: str) -> Provider:
    try:
        return get_provider(slug)
    except NotFound as error:
        raise Http404 from error
