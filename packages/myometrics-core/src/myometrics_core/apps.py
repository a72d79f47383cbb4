"""App configuration of core."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Registers core's settings, checks, health probes and examinations. Core has no models."""

    name = "myometrics_core"
    label = "myometrics_core"
    verbose_name = "MyoMetrics core"

    def ready(self) -> None:
        """Register core's settings, checks, probes, examinations and gauges."""
        from . import checks
        from .conf.core_settings import core_settings
        from .conf.definitions import register_settings
        from .doctor.examinations import register_examinations
        from .events.bus import register_reserved_actions
        from .health.probes import BUILT_IN_PROBES, ReplicasProbe
        from .health.report import register_probe
        from .http import request_id
        from .observability import gauges
        from .personal_data.deliveries import DATA_EXPORTED

        register_settings(core_settings)
        checks.register_checks()
        # Reserved even without the health log, so that clients can't post them.
        register_reserved_actions(
            DATA_EXPORTED, "system_degraded", "system_down", "system_recovered"
        )
        register_examinations()
        for probe in BUILT_IN_PROBES:
            register_probe(probe)
        # Without replicas the health response lists only the services of the specification.
        if core_settings.values().get("READ_REPLICAS"):
            register_probe(ReplicasProbe())
        gauges.register_gauges()
        request_id.connect_celery()
