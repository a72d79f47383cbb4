"""Permissions of the endpoints."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from ..users.user_model import is_administrator


class IsAdministrator(IsAuthenticated):
    """Authenticated, and an administrator by ``MYOMETRICS["IS_ADMINISTRATOR"]``."""

    message = _("Only an administrator may do this.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        return is_administrator(request.user)
