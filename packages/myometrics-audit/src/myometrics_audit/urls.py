"""The endpoints of audit, relative to the API's prefix."""

from django.urls import path

from .views import AuditLogsView

app_name = "myometrics_audit"

urlpatterns = [
    path("audit-logs/", AuditLogsView.as_view(), name="audit-logs"),
]
