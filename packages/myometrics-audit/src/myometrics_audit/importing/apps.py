"""App configuration of imports."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ImportingConfig(AppConfig):
    """The app of the command ``audit_import`` and of its table."""

    name = "myometrics_audit.importing"
    label = "myometrics_audit_importing"
    verbose_name = _("Imports of audit logs")
    default_auto_field = "django.db.models.BigAutoField"
