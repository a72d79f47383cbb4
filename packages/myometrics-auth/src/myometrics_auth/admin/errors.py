"""Errors of services on admin pages: as messages, or as a redirect to confirm one's identity."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException, ValidationError

from myometrics_auth.conf import auth_settings
from myometrics_auth.services.browser import browser_session
from myometrics_auth.services.reauthentication import (
    ReauthenticationRequired,
    recent_sign_in_require,
)
from myometrics_auth.services.users import deletion_conflicts_reported
from myometrics_core.db import read_committed


class ErrorsAsMessages(admin.ModelAdmin):  # type: ignore[type-arg]
    """Base of admin pages that call services.

    If a service refuses, the page redirects to itself with the reason; after
    ``ReauthenticationRequired`` to the page on which users confirm their identity, and then back.
    """

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._call(super().changeform_view, request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._call(super().delete_view, request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return self._call(super().changelist_view, request, *args, **kwargs)

    def _call(self, view: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            with deletion_conflicts_reported(), read_committed():
                return view(request, *args, **kwargs)
        except ReauthenticationRequired:
            return _reauthentication_page(request, self.admin_site.name)
        except APIException as refusal:  # also NotFound: the row was deleted concurrently
            messages.error(request, error_text(refusal))
        return HttpResponseRedirect(request.get_full_path())


def error_text(refusal: APIException) -> str:
    """Return the sentences of ``refusal``, without the names of its fields."""
    detail: Any = refusal.detail
    if isinstance(refusal, ValidationError) and isinstance(detail, dict):
        return " ".join(str(text) for texts in detail.values() for text in texts)
    return str(detail)


def require_recent_sign_in(request: HttpRequest, operation: str) -> None:
    """Like ``recent_sign_in_require``, for the session of the browser."""
    if operation in auth_settings.REAUTHENTICATE_FOR:
        recent_sign_in_require(session=browser_session(request), operation=operation)


def _reauthentication_page(request: HttpRequest, site_name: str) -> HttpResponse:
    """Redirect to the page on which the user confirms their identity, and then back.

    Raises ``PermissionDenied`` if the browser did not sign in through auth.
    """
    try:
        page = reverse("admin:login_reauthentication", current_app=site_name)
    except NoReverseMatch as error:  # ADMIN_LOGIN is off
        raise PermissionDenied from error
    if browser_session(request) is None:
        raise PermissionDenied
    if request.method == "POST":
        text = _("Nothing was changed yet. Confirm your identity, then repeat the change.")
        messages.warning(request, text)
    return HttpResponseRedirect(f"{page}?{urlencode({'next': request.get_full_path()})}")
