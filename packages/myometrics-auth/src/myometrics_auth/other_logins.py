"""Find views in the URLconf that sign users in without auth."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, MethodType
from typing import Any, Final

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib import auth
from django.contrib.auth.views import LoginView, PasswordResetConfirmView
from django.urls import URLPattern, URLResolver, get_resolver

from .conf import auth_settings

LOGINS: Final = (auth.login, getattr(auth, "alogin", auth.login))
OTHER_PACKAGES: Final = frozenset(
    {
        "allauth.account.views.LoginView",
        "allauth.account.views.SignupView",
        "allauth.headless.account.views.LoginView",
        "djoser.views.TokenCreateView",
        "knox.views.LoginView",
        "rest_framework.authtoken.views.ObtainAuthToken",
        "rest_framework_simplejwt.views.TokenObtainPairView",
    }
)
"""Views that check a password without calling Django's ``login``."""

NOT_SEARCHED: Final = frozenset({"django", "rest_framework", "myometrics_auth"})


def other_logins() -> Iterator[tuple[str, str]]:
    """Yield route and dotted name of each view that signs users in without auth."""
    if getattr(django_settings, "ROOT_URLCONF", None):
        yield from _logins_among(get_resolver().url_patterns, "/")


def _logins_among(patterns: Any, prefix: str) -> Iterator[tuple[str, str]]:
    for pattern in patterns:
        route = f"{prefix}{pattern.pattern}"
        if isinstance(pattern, URLResolver):
            yield from _logins_among(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern) and _is_other_login(pattern.callback):
            yield route, pattern.lookup_str


def _is_other_login(callback: Any) -> bool:
    view_class = getattr(callback, "view_class", None) or getattr(callback, "cls", None)
    if view_class is not None:
        options = getattr(callback, "view_initkwargs", {})
        return _is_login_class(view_class) or (
            issubclass(view_class, PasswordResetConfirmView)
            and bool(options.get("post_reset_login", view_class.post_reset_login))
        )
    view = inspect.unwrap(callback, stop=lambda view: isinstance(view, MethodType))
    if isinstance(view, MethodType):
        return _is_login_of_admin_site(view)
    return _calls_login(view, set())


def _is_login_class(view_class: type) -> bool:
    if view_class.__module__.startswith("myometrics_auth."):
        return False
    names = {f"{base.__module__}.{base.__qualname__}" for base in view_class.__mro__}
    return (
        issubclass(view_class, LoginView)
        or bool(names & OTHER_PACKAGES)
        or any(
            _calls_login(getattr(member, "__func__", member), set())
            for base in view_class.__mro__
            for member in vars(base).values()
        )
    )


def _is_login_of_admin_site(method: MethodType) -> bool:
    if apps.is_installed("django.contrib.admin"):
        from django.contrib import admin  # noqa: PLC0415 (where it is installed)

        from .admin_site import AuthAdminSite  # noqa: PLC0415

        site = method.__self__
        if isinstance(site, AuthAdminSite):
            return False
        if isinstance(site, admin.AdminSite):
            # With ADMIN_LOGIN off, the default site's login is separate on purpose.
            return method.__name__ == "login" and (auth_settings.ADMIN_LOGIN or admin.site != site)
    return _calls_login(method.__func__, set())


def _calls_login(function: Any, seen: set[Any]) -> bool:
    """Return whether a function calls ``login``, directly or through functions of its module."""
    function = inspect.unwrap(function) if isinstance(function, FunctionType) else function
    if not isinstance(function, FunctionType) or function in seen:
        return False
    seen.add(function)
    if str(function.__module__).partition(".")[0] in NOT_SEARCHED:
        return False
    names = set(_names(function.__code__))
    used = [function.__globals__[name] for name in names & set(function.__globals__)]
    if any(value is login for value in used for login in LOGINS):
        return True
    if any(value is auth for value in used) and names & {"login", "alogin"}:
        return True
    others = [value for value in used if isinstance(value, FunctionType)]
    return any(
        _calls_login(value, seen) for value in others if value.__module__ == function.__module__
    )


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
