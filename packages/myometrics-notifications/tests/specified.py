"""The specification in its own spelling; what the tests hold the code against."""

SETTINGS_URL = "/api/users/me/notifications/"

DEFAULT_SWITCHES = {
    "email_notifications": True,
    "upload_completed": True,
    "analysis_ready": True,
    "system_alerts": False,
}
"""Every switch, as it stands until a person turns it ("Notification Settings Endpoints")."""

ERROR_KEYS = {"detail", "code", "field_errors"}
"""The body of every refusal ("Error Handling")."""
