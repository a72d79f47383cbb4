"""Who may call an endpoint."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from .users import is_administrator

__all__ = ["AllowAny", "IsAdministrator", "IsAuthenticated"]


class IsAdministrator(IsAuthenticated):
    """Signed in, and an administrator by the host's rule (``MYOMETRICS["IS_ADMINISTRATOR"]``)."""

    message = _("Only an administrator may do this.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        """Whether the request's user, as read for this very request, administers."""
        return is_administrator(request.user)
