"""Admin site pages for signing in and for changing one's own password."""

from __future__ import annotations

import math
from copy import copy
from typing import Any, ClassVar
from urllib.parse import urlencode

import segno
from django.contrib.admin import AdminSite
from django.contrib.auth.views import LoginView, PasswordChangeView
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, AuthenticationFailed, ValidationError
from rest_framework.parsers import FormParser, MultiPartParser
from rest_framework.request import Request

from myometrics_auth.errors import EmailNotVerified, InvalidToken
from myometrics_auth.forms import (
    EnrolmentForm,
    OwnPasswordForm,
    PasswordForm,
    ReauthenticationForm,
    SecondFactorForm,
)
from myometrics_auth.requests import current_user
from myometrics_auth.second_factor_kinds import registered_second_factors
from myometrics_auth.services.browser import (
    Step,
    browser_enrol,
    browser_enrolment,
    browser_mfa_token,
    browser_needs_code,
    browser_session,
    browser_sign_in,
    browser_sign_in_with_second_factor,
)
from myometrics_auth.services.passwords import password_change
from myometrics_auth.services.reauthentication import (
    reauthentication_methods,
    session_reauthenticate,
)
from myometrics_core.api import ApiView

TEMPLATES = "myometrics_auth/admin"
PAGES = {Step.SECOND_FACTOR: "admin:login_second_factor", Step.ENROLMENT: "admin:login_enrolment"}


class ThrottledPost:
    """Mixin for admin pages: counts POST in the bucket ``auth``, separately for each page.

    ``counted_methods`` can name others.
    """

    site: AdminSite
    request: HttpRequest
    throttle_bucket: ClassVar[str] = "auth"
    counted_methods: ClassVar[frozenset[str]] = frozenset({"POST"})

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.method not in self.counted_methods:
            return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]
        # A copy, because DRF's request sets its user on the wrapped request.
        counted = Request(copy(request), parsers=[FormParser(), MultiPartParser()])
        for throttle in ApiView().get_throttles():
            if not throttle.allow_request(counted, self):
                return self._too_many_requests(math.ceil(throttle.wait() or 1))
        return super().dispatch(request, *args, **kwargs)  # type: ignore[misc]

    def rate_limit_identity(self, request: Request) -> str | None:
        """Return the identity for rate limiting; ``None`` means the client address."""
        return None

    def _too_many_requests(self, seconds: int) -> HttpResponse:
        context = {
            **self.site.each_context(self.request),
            "title": _("Too many attempts"),
            "app_path": self.request.get_full_path(),
            "wait": seconds,
        }
        page = TemplateResponse(self.request, f"{TEMPLATES}/throttled.html", context, status=429)
        page["Retry-After"] = str(seconds)
        add_never_cache_headers(page)
        return page


class AdminSignInView(ThrottledPost, LoginView):
    """Base of the sign-in steps: validates ``next`` and is never cached, as Django's view."""

    site: AdminSite = None  # type: ignore[assignment]  # as_view() requires a class attribute
    title: Any = ""
    is_second_step = True

    def get_form_kwargs(self) -> dict[str, Any]:
        kwargs = super().get_form_kwargs()
        del kwargs["request"]
        return kwargs

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = {
            **self.site.each_context(self.request),
            "title": self.title,
            "subtitle": None,
            "app_path": self.request.get_full_path(),
            "username": self.request.user.get_username(),
            "parts": self.parts(),
        }
        return super().get_context_data(**{**context, **kwargs})

    def parts(self) -> list[dict[str, Any]]:
        """Return the parts of registered second factors."""
        token = browser_mfa_token(self.request) if self.is_second_step else ""
        found = [
            factor.admin_part(site=self.site, request=self.request, token=token)
            for factor in registered_second_factors()
        ]
        return [part for part in found if part is not None]

    def get_default_redirect_url(self) -> str:
        return self.page("admin:index")

    def page(self, name: str) -> str:
        return reverse(name, current_app=self.site.name)

    def go_to(self, name: str) -> HttpResponse:
        """Redirect to a page of this admin site, with a valid ``next`` passed on."""
        target = self.get_redirect_url()
        query = f"?{urlencode({self.redirect_field_name: target})}" if target else ""
        return HttpResponseRedirect(self.page(name) + query)


class AdminLoginView(AdminSignInView):
    """The first step: e-mail address and password."""

    authentication_form = PasswordForm
    template_name = f"{TEMPLATES}/login.html"
    title = _("Log in")
    is_second_step = False

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            step = browser_sign_in(
                email=form.cleaned_data["username"],
                password=form.cleaned_data["password"],
                request=self.request,
                is_allowed=self.site.may_sign_in,  # type: ignore[attr-defined]
            )
        except EmailNotVerified as error:
            form.add_error(None, str(error.detail))
            return self.form_invalid(form)
        except APIException:
            form.add_error(None, form.get_invalid_login_error())
            return self.form_invalid(form)
        if step in PAGES:
            return self.go_to(PAGES[step])
        return HttpResponseRedirect(self.get_success_url())


class AdminSecondFactorView(AdminSignInView):
    """The second step of users who have a second factor."""

    authentication_form = SecondFactorForm  # type: ignore[assignment]  # takes no request
    template_name = f"{TEMPLATES}/second_factor.html"
    title = _("Second factor")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not browser_needs_code(request):
            return self.go_to("admin:login")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            browser_sign_in_with_second_factor(code=form.cleaned_data["code"], request=self.request)
        except (InvalidToken, EmailNotVerified):
            return self.go_to("admin:login")
        except AuthenticationFailed:
            form.add_error("code", _("The code is not right."))
            return self.form_invalid(form)
        return HttpResponseRedirect(self.get_success_url())


class AdminEnrolmentView(AdminSignInView):
    """The second step of users who must have a second factor and have none."""

    authentication_form = EnrolmentForm  # type: ignore[assignment]  # takes no request
    template_name = f"{TEMPLATES}/enrolment.html"
    title = _("Set up the second factor")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        self.enrolment = browser_enrolment(request)
        if self.enrolment is None:
            return self.go_to("admin:login")
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(**kwargs)
        if self.enrolment is not None:
            secret, otpauth_url = self.enrolment
            context["qr_code"] = _qr_code_svg(otpauth_url)
            context["secret"] = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
        return context

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            codes = browser_enrol(code=form.cleaned_data["code"], request=self.request)
        except ValidationError as error:
            _add_errors(form, error)
            return self.form_invalid(form)
        except APIException:  # password changed, user deleted, or enrolled concurrently
            return self.go_to("admin:login")
        context = {
            **self.site.each_context(self.request),
            "title": _("Recovery codes"),
            "recovery_codes": codes,
            "next": self.get_success_url(),
        }
        return TemplateResponse(self.request, f"{TEMPLATES}/recovery_codes.html", context)


class AdminReauthenticationView(AdminSignInView):
    """Confirmation of the current user's identity before a sensitive operation."""

    authentication_form = ReauthenticationForm  # type: ignore[assignment]  # takes no request
    template_name = f"{TEMPLATES}/reauthentication.html"
    title = _("Confirm your identity")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if not self.site.has_permission(request) or browser_session(request) is None:
            return self.go_to("admin:login")
        return super().dispatch(request, *args, **kwargs)

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "user": current_user(self.request)}

    def parts(self) -> list[dict[str, Any]]:
        """Return the parts of registered methods."""
        found = [
            method.admin_part(site=self.site, request=self.request)
            for method in reauthentication_methods().values()
        ]
        return [part for part in found if part is not None]

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            session_reauthenticate(
                user=current_user(self.request),
                session=browser_session(self.request),
                proof=form.proof,
                request=self.request,
            )
        except ValidationError as error:
            _add_errors(form, error)
            return self.form_invalid(form)
        except APIException:  # the session was ended or the user deleted concurrently
            return self.go_to("admin:login")
        return HttpResponseRedirect(self.get_success_url())

    def rate_limit_identity(self, request: Request) -> str | None:
        return f"user:{self.request.user.pk}"


class AdminPasswordView(ThrottledPost, PasswordChangeView):
    """Change of the current user's password, through the same service as the API."""

    site: AdminSite = None  # type: ignore[assignment]  # as_view() requires a class attribute
    form_class = OwnPasswordForm

    def form_valid(self, form: Any) -> HttpResponse:
        """Change the password; every other session ends, this one continues."""
        try:
            password_change(
                user=current_user(self.request),
                session=browser_session(self.request),
                old_password=form.cleaned_data["old_password"],
                new_password=form.cleaned_data["new_password1"],
                request=self.request,
            )
        except ValidationError as error:
            _add_errors(form, error)
            return self.form_invalid(form)
        except APIException:  # the user was deleted concurrently
            return HttpResponseRedirect(reverse("admin:login", current_app=self.site.name))
        return HttpResponseRedirect(self.get_success_url())

    def rate_limit_identity(self, request: Request) -> str | None:
        return f"user:{self.request.user.pk}"


def _qr_code_svg(text: str) -> SafeString:
    # Black on white in every theme.
    drawing = segno.make(text, error="m", micro=False).svg_inline(
        scale=5, dark="#000", light="#fff"
    )
    return mark_safe(drawing)  # noqa: S308 (shapes only, no text)


def _add_errors(form: Any, error: ValidationError) -> None:
    names = {"new_password": "new_password2"}
    detail: Any = error.detail
    for name, messages in detail.items():
        errors = [DjangoValidationError(str(message)) for message in messages]
        form.add_error(names.get(name, name), errors)
