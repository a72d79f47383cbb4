"""App configuration of the access table."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AccessTableConfig(AppConfig):
    """App of the access table and its writer."""

    name = "myometrics_core.access_table"
    label = "myometrics_access_table"
    verbose_name = _("Accesses")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the observer, the erasure section, the checks and the deletion receiver."""
        from ..accesses import register_access_observer
        from ..people import connect_person_deleted
        from ..personal_data import register_personal_data
        from ..site_checks import register_site_checks
        from . import checks
        from .personal_data import AccessesSection
        from .services import accesses_release_user
        from .writer import access_writer

        checks.register_checks()
        register_site_checks(self, app="myometrics_core")
        register_access_observer("access_table", access_writer)
        register_personal_data(AccessesSection())
        connect_person_deleted(lambda user, using: accesses_release_user(user=user), uid=self.label)
