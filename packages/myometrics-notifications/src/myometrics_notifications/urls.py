"""Include under the API's prefix: ``path("api/", include("myometrics_notifications.urls"))``."""

from django.urls import path

from .views import ExportDownloadView, MyNotificationSettingsView, UnsubscribeView

app_name = "myometrics_notifications"
urlpatterns = [
    path("users/me/notifications/", MyNotificationSettingsView.as_view(), name="my-settings"),
    path("notifications/unsubscribe/", UnsubscribeView.as_view(), name="unsubscribe"),
    path("notifications/exports/", ExportDownloadView.as_view(), name="export-download"),
]
