"""Admin site sign-in through auth, for the default site and for custom admin sites."""

from __future__ import annotations

from collections.abc import Mapping
from functools import update_wrapper
from typing import Any, Final

from django.apps import apps
from django.contrib import admin
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from .models import User
from .second_factor_kinds import registered_second_factors
from .services.browser import browser_session_enforce
from .views.admin_login import (
    AdminEnrolmentView,
    AdminLoginView,
    AdminPasswordView,
    AdminReauthenticationView,
    AdminSecondFactorView,
)

__all__ = ["AuthAdminSite"]

LOGIN_PARTS: Final = ("login", "login_form", "logout", "password_change")
"""Attributes of an admin site that implement its login."""


def _sign_in_page(method: Any) -> Any:
    page = method_decorator([never_cache, non_atomic_requests])(method)
    page.login_required = False  # as Django's `login_not_required`, which was added in 5.1
    return page


class AuthAdminSite(admin.AdminSite):
    """An admin site whose login uses auth's services, as the API does.

    Services check the password and the second factor, each sign-in creates a ``Session``, and a
    browser whose ``Session`` has ended is signed out at its next request. Replaces Django's
    ``AdminSite``; if combined with another subclass of it, list this class first. ``login_form`` is
    not used.
    """

    def may_sign_in(self, user: User) -> bool:
        """Return whether ``user``, whose password is correct, may sign in here: active staff.

        Override it together with ``has_permission``.
        """
        return bool(user.is_active and user.is_staff)

    def has_permission(self, request: HttpRequest) -> bool:
        browser_session_enforce(request)
        return super().has_permission(request)

    def get_urls(self) -> list[Any]:
        return [
            path("login/second-factor/", self.login_second_factor, name="login_second_factor"),
            path("login/enrolment/", self.login_enrolment, name="login_enrolment"),
            *(self._provider_urls() if _has_providers() else []),
            *(url for factor in registered_second_factors() for url in factor.admin_urls(self)),
            path(
                "login/reauthentication/",
                self.login_reauthentication,
                name="login_reauthentication",
            ),
            *super().get_urls(),
        ]

    def admin_view(self, view: Any, cacheable: bool = False) -> Any:
        def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
            response = view(request, *args, **kwargs)
            if request.method == "POST":
                # Before the session middleware saves: saving a deleted session returns a 400.
                browser_session_enforce(request, again=True)
            return response

        return super().admin_view(update_wrapper(checked, view), cacheable)

    @_sign_in_page
    def login(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index", current_app=self.name))
        template, context = self.login_template, dict(extra_context or {})
        if _has_providers():
            target = request.GET.get("next", "")
            context["providers"] = _providers().login_options(self, target)
        return self._page(
            AdminLoginView,
            request,
            template_name=template or AdminLoginView.template_name,
            extra_context=context,
        )

    @_sign_in_page
    def login_second_factor(self, request: HttpRequest) -> HttpResponse:
        return self._page(AdminSecondFactorView, request)

    @_sign_in_page
    def login_enrolment(self, request: HttpRequest) -> HttpResponse:
        return self._page(AdminEnrolmentView, request)

    @_sign_in_page
    def login_provider(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._page(_providers().AdminProviderView, request, slug=slug)

    @_sign_in_page
    def login_provider_callback(self, request: HttpRequest, slug: str) -> HttpResponse:
        return self._page(_providers().AdminProviderCallbackView, request, slug=slug)

    @_sign_in_page
    def login_reauthentication(self, request: HttpRequest) -> HttpResponse:
        return self._page(AdminReauthenticationView, request)

    def logout(self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None) -> Any:
        """Sign out, by POST only (Django 4.2 accepts GET). ``user_logged_out`` ends the row."""
        if request.method not in {"POST", "OPTIONS"}:
            return HttpResponseNotAllowed(["POST", "OPTIONS"])
        return super().logout(request, dict(extra_context or {}))

    def password_change(
        self, request: HttpRequest, extra_context: Mapping[str, Any] | None = None
    ) -> Any:
        return self._page(
            AdminPasswordView,
            request,
            template_name=self.password_change_template or AdminPasswordView.template_name,
            success_url=reverse("admin:password_change_done", current_app=self.name),
            extra_context={**self.each_context(request), **(extra_context or {})},
        )

    def _provider_urls(self) -> list[Any]:
        route = "login/provider/<slug:slug>/"
        return [
            path(route, self.login_provider, name="login_provider"),
            path(f"{route}callback/", self.login_provider_callback, name="login_provider_callback"),
        ]

    def _page(self, view: Any, request: HttpRequest, **options: Any) -> HttpResponse:
        request.current_app = self.name  # for {% url %}
        return view.as_view(site=self, **options)(request)


def _has_providers() -> bool:
    return apps.is_installed("myometrics_auth.federation")


def _providers() -> Any:
    # Imported here: an opt-in app.
    from .federation import admin_login  # noqa: PLC0415

    return admin_login


def use_auth_sign_in() -> None:
    """Make the default admin site sign in through auth, unless it customises its login."""
    site_class = admin.site.__class__
    if issubclass(site_class, AuthAdminSite) or has_own_login(admin.site):
        return
    if site_class is admin.AdminSite:
        admin.site.__class__ = AuthAdminSite
    else:
        admin.site.__class__ = type(site_class.__name__, (AuthAdminSite, site_class), {})


def has_own_login(site: admin.AdminSite) -> bool:
    """Return whether ``site`` overrides a login attribute of Django's ``AdminSite``."""
    parts = {name: getattr(site, name) for name in LOGIN_PARTS}
    return any(
        getattr(part, "__func__", part) is not getattr(admin.AdminSite, name)
        for name, part in parts.items()
    )
