"""Names and values from the specification."""

SETTINGS_URL = "/api/users/me/notifications/"

DEFAULT_SWITCHES = {
    "email_notifications": True,
    "upload_completed": True,
    "analysis_ready": True,
    "system_alerts": False,
}
"""The default of every switch ("Notification Settings Endpoints")."""

ERROR_KEYS = {"detail", "code", "field_errors"}
"""The keys of every error body ("Error Handling")."""
