"""Pages of the admin site that sign in with a passkey."""

from __future__ import annotations

import json
from typing import Any, cast

from django import forms
from django.contrib.admin import AdminSite
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.views import View
from django.views.decorators.cache import never_cache
from rest_framework.exceptions import APIException, AuthenticationFailed, ValidationError

from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import User
from myometrics_auth.services.browser import (
    browser_mfa_token,
    browser_sign_in_with_second_factor,
)
from myometrics_auth.views.admin_login import (
    AdminReauthenticationView,
    AdminSignInView,
    ThrottledPost,
)
from myometrics_auth.views.sign_in import LOGIN_FORM_RATE

from .browser_sign_in import browser_sign_in_with_passkey
from .conf import admin_origin
from .serializers import AssertionField
from .services import passkey_begin_second_factor, passkey_begin_sign_in

REFUSED = _("The passkey can't be used. Try again.")


class PasskeyForm(forms.Form):
    """The authenticator's response, as JSON."""

    passkey = forms.CharField()

    def clean_passkey(self) -> dict[str, Any]:
        try:
            given = json.loads(self.cleaned_data["passkey"])
            return cast("dict[str, Any]", AssertionField().run_validation(given))
        except (ValueError, RecursionError, ValidationError) as error:
            raise forms.ValidationError(REFUSED) from error


class OptionsView(View):
    """The options for the browser, as JSON: of a sign-in, or of its second step."""

    site: AdminSite = None  # type: ignore[assignment]  # as_view() requires a class attribute
    is_second_step = False

    def post(self, request: HttpRequest) -> HttpResponse:
        if admin_origin(request) is None:
            return JsonResponse({}, status=404)
        try:
            options = (
                passkey_begin_second_factor(token=browser_mfa_token(request))
                if self.is_second_step
                else passkey_begin_sign_in()
            )
        except APIException as error:
            return JsonResponse({}, status=error.status_code)
        return JsonResponse({"publicKey": options})


class AdminPasskeyOptionsView(ThrottledPost, OptionsView):
    """Counted separately, as in the API."""

    throttle_rate = LOGIN_FORM_RATE
    http_method_names = ["post"]


class PasskeyPage(AdminSignInView):
    """Base of pages that take a passkey; they show nothing but why one is refused."""

    http_method_names = ["post"]
    back: str

    def form_invalid(self, form: Any) -> HttpResponse:
        return self.refused(REFUSED)

    def refused(self, problem: Any) -> HttpResponse:
        context = {
            **self.site.each_context(self.request),
            "title": self.title,
            "problem": problem,
            "back": self.page(self.back),
        }
        return TemplateResponse(self.request, "myometrics_auth/passkeys/refused.html", context)


class AdminPasskeyView(PasskeyPage):
    """Sign in with a passkey, alone or as the second step."""

    authentication_form = PasskeyForm  # type: ignore[assignment]  # takes no request
    title = _("Log in")
    is_second_step = False
    back = "admin:login"

    def form_valid(self, form: Any) -> HttpResponse:
        credential = form.cleaned_data["passkey"]
        try:
            if self.is_second_step:
                browser_sign_in_with_second_factor(request=self.request, passkey=credential)
            else:
                browser_sign_in_with_passkey(
                    credential=credential,
                    request=self.request,
                    is_allowed=self.site.may_sign_in,  # type: ignore[attr-defined]
                )
        except InvalidToken:
            return self.go_to("admin:login")
        except AuthenticationFailed:
            return self.refused(REFUSED)
        except APIException as error:
            return self.refused(error.detail)
        return HttpResponseRedirect(self.get_success_url())


class ConfirmWithPasskeyForm(PasskeyForm):
    """The response of a passkey of ``user``, as a proof of identity."""

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)

    @property
    def proof(self) -> dict[str, Any]:
        return dict(self.cleaned_data)


class AdminPasskeyReauthenticationView(PasskeyPage, AdminReauthenticationView):
    """Confirm the current user's identity with a passkey."""

    authentication_form = ConfirmWithPasskeyForm  # type: ignore[assignment]  # takes no request
    back = "admin:login_reauthentication"


def admin_urls(site: Any) -> list[Any]:
    """Return the URLs of the two steps of a sign-in to ``site``, and of reauthentication."""

    def step(view: Any, **options: Any) -> Any:
        serve_view = view.as_view(site=site, **options)

        def serve(request: HttpRequest) -> HttpResponse:
            request.current_app = site.name  # for {% url %}
            return cast("HttpResponse", serve_view(request))

        page: Any = never_cache(non_atomic_requests(serve))
        page.login_required = False  # as Django's `login_not_required`, which was added in 5.1
        return page

    first, second = "login/passkey/", "login/second-factor/passkey/"
    return [
        path(first, step(AdminPasskeyView, is_second_step=False), name="login_passkey"),
        path(
            f"{first}options/",
            step(AdminPasskeyOptionsView, is_second_step=False),
            name="login_passkey_options",
        ),
        path(
            second,
            step(AdminPasskeyView, is_second_step=True),
            name="login_second_factor_passkey",
        ),
        path(
            f"{second}options/",
            step(AdminPasskeyOptionsView, is_second_step=True),
            name="login_second_factor_passkey_options",
        ),
        path(
            "login/reauthentication/passkey/",
            step(AdminPasskeyReauthenticationView),
            name="login_reauthentication_passkey",
        ),
    ]
