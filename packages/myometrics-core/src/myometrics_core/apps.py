"""App configuration of core."""

from importlib.util import find_spec

from django.apps import AppConfig


class CoreConfig(AppConfig):
    """Registers core's settings, checks, probes, examinations, gauges and recurring jobs."""

    name = "myometrics_core"
    label = "myometrics_core"
    verbose_name = "MyoMetrics core"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks
        from .conf.core_settings import core_settings
        from .conf.definitions import register_settings
        from .conf.site_checks import register_site_checks
        from .doctor.examinations import register_examinations
        from .events.bus import register_reserved_actions
        from .health.probes import BUILT_IN_PROBES, ReplicasProbe
        from .health.report import register_probe
        from .jobs import thread_runner
        from .observability import gauges
        from .personal_data.deliveries import DATA_EXPORTED
        from .recurring_jobs import register_recurring_jobs

        register_settings(core_settings)
        register_site_checks(self, needs_times=False)
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
        register_recurring_jobs()
        thread_runner.connect()
        if find_spec("celery"):
            from .jobs.celery_signals import connect_celery

            connect_celery()
