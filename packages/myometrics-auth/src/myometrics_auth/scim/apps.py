"""App configuration of provisioning over SCIM."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ScimConfig(AppConfig):
    """App of SCIM tokens, groups and the users that identity providers see."""

    name = "myometrics_auth.scim"
    label = "myometrics_scim"
    verbose_name = _("Provisioning (SCIM)")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.personal_data import register_personal_data

        from .checks import register_checks
        from .personal_data import ProvisioningSection

        register_checks()
        register_site_checks(self, app="myometrics_auth")
        register_personal_data(ProvisioningSection())
