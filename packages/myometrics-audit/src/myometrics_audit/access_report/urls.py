"""The endpoint of access reports. The URLs of audit include it if the app is installed."""

from django.urls import path

from .views import AccessReportView

urlpatterns = [
    path("audit-logs/access-report/", AccessReportView.as_view(), name="access-report"),
]
