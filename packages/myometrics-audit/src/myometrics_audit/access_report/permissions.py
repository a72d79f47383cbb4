"""Who may read which access report."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from ..conf import audit_settings
from .models import VIEW_PERMISSION


def can_view_all_reports(user: Any) -> bool:
    """Return whether the user may read the report of every data subject."""
    # A site's user model need not have permissions.
    has_perm = getattr(user, "has_perm", None)
    return bool(has_perm and has_perm(VIEW_PERMISSION))


def own_data_subject(user: Any) -> str | None:
    """Return the one data subject whose report the user may read, by the site's function."""
    find_subject = audit_settings.ACCESS_REPORT_OWN_SUBJECT
    subject = find_subject(user) if find_subject else None
    return None if subject in (None, "") else str(subject)


class CanViewAccessReports(IsAuthenticated):
    """Users with the permission ``view_access_report``, and users with a report of their own."""

    message = _("You may not read access reports.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        user = request.user
        return super().has_permission(request, view) and (
            can_view_all_reports(user) or own_data_subject(user) is not None
        )
