"""The endpoint of emergency access, relative to the API's prefix."""

from django.urls import path

from .views import EmergencyAccessView

app_name = "myometrics_audit_review"

urlpatterns = [
    path("emergency-access/", EmergencyAccessView.as_view(), name="emergency-access"),
]
