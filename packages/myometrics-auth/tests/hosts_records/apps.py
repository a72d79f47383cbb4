from django.apps import AppConfig


class HostsRecordsConfig(AppConfig):
    name = "hosts_records"
    default_auto_field = "django.db.models.BigAutoField"
