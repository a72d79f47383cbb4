"""App configuration of core."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Registers core's settings, checks and health probes. Core has no models."""

    name = "myometrics_core"
    label = "myometrics_core"
    verbose_name = "MyoMetrics core"

    def ready(self) -> None:
        """Register what core offers to the other packages."""
        from . import checks, health, probes, request_id
        from .conf import register_settings
        from .settings import core_settings

        register_settings(core_settings)
        checks.register_checks()
        for probe in (
            probes.DatabaseProbe(),
            probes.RedisProbe(),
            probes.EmailProbe(),
            probes.MicroserviceProbe(),
        ):
            health.register_probe(probe)
        request_id.connect_celery()
