"""The composed site as an app, which checks its settings."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Registers the checks of a production environment."""

    name = "config"
    verbose_name = "Site"

    def ready(self) -> None:
        from django.conf import settings

        from myometrics_core.conf import register_check

        from .checks import check_production
        from .optional.tracing import check_tracing

        register_check(check_production, "security", app="config", deploy=True)
        register_check(check_tracing, "tracing", app="config")
        if settings.BROKER_URL not in {None, settings.REDIS_URL}:
            from myometrics_core.health import register_probe
            from myometrics_core.health.probes import BrokerProbe

            register_probe(BrokerProbe())
        if settings.METRICS_TOKEN or settings.METRICS_NETWORKS:
            from myometrics_core.observability.prometheus import connect_prometheus

            connect_prometheus()
