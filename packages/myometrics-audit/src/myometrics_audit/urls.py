"""The endpoints of audit, relative to the API's prefix."""

from django.urls import path

from .listing.views import AuditLogsView, AuditLogView

app_name = "myometrics_audit"

urlpatterns = [
    path("audit-logs/", AuditLogsView.as_view(), name="audit-logs"),
    path("audit-logs/<str:entry_id>/", AuditLogView.as_view(), name="audit-log"),
]
