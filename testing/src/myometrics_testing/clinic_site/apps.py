from django.apps import AppConfig


class ClinicSiteConfig(AppConfig):
    name = "myometrics_testing.clinic_site"
    label = "clinic_site"
    default_auto_field = "django.db.models.BigAutoField"
