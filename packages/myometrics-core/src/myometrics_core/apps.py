"""App configuration of core."""

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Registers core's settings, checks, health probes and examinations. Core has no models."""

    name = "myometrics_core"
    label = "myometrics_core"
    verbose_name = "MyoMetrics core"

    def ready(self) -> None:
        """Register core's settings, checks, probes, examinations and gauges."""
        from . import checks, gauges, request_id
        from .activities import register_reserved_actions
        from .conf import register_settings
        from .examinations import register_examinations
        from .export_deliveries import DATA_EXPORTED
        from .health import register_probe
        from .probes import BUILT_IN_PROBES, ReplicasProbe
        from .settings import core_settings

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
