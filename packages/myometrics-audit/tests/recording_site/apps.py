from django.apps import AppConfig


class RecordingSiteConfig(AppConfig):
    name = "recording_site"
    default_auto_field = "django.db.models.BigAutoField"
