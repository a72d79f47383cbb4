"""The endpoints of audit, relative to the API's prefix."""

from django.apps import apps
from django.urls import path

from .listing.views import AuditLogsView, AuditLogView

app_name = "myometrics_audit"

urlpatterns = [
    path("audit-logs/", AuditLogsView.as_view(), name="audit-logs"),
    path("audit-logs/<str:entry_id>/", AuditLogView.as_view(), name="audit-log"),
]

if apps.is_installed("myometrics_audit.access_report"):
    from .access_report.urls import urlpatterns as access_report

    # First, because "access-report" would be read as the id of an entry.
    urlpatterns = [*access_report, *urlpatterns]
