"""The permission to read access reports."""

from __future__ import annotations

from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from ..log.models import AuditLog

VIEW_PERMISSION = "myometrics_audit_access_report.view_access_report"


class AccessReport(AuditLog):
    """Proxy without a table: gives the report a permission of its own and an admin page."""

    class Meta:
        proxy = True
        default_permissions = ()
        permissions: ClassVar = [("view_access_report", "Can view access reports")]
        verbose_name = _("access report")
        verbose_name_plural = _("access reports")
