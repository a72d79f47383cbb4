"""App configuration of checkpoints."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class CheckpointsConfig(AppConfig):
    """Registers the checks, the job, the gauge and the examination of checkpoints."""

    name = "myometrics_audit.checkpoints"
    label = "myometrics_audit_checkpoints"
    verbose_name = _("Audit checkpoints")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.jobs import register_job_kind

        from .checks import register_checks
        from .doctor import register_examinations
        from .gauges import register_gauges
        from .jobs import PublishCheckpoints

        register_checks()
        register_site_checks(self, app="myometrics_audit")
        register_gauges()
        register_examinations()
        register_job_kind(PublishCheckpoints())
