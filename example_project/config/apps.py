"""The composed site as an app: what it says of its own settings."""

from django.apps import AppConfig


class SiteConfig(AppConfig):
    """Registers the checks of a production environment."""

    name = "config"
    verbose_name = "Site"

    def ready(self) -> None:
        from django.conf import settings
        from django.core.checks import register

        from .production import check_production
        from .tracing import check_tracing

        register(check_production, "security", deploy=True)
        register(check_tracing, "tracing")
        if settings.METRICS_TOKEN or settings.METRICS_NETWORKS:
            from myometrics_core.prometheus import connect_prometheus

            connect_prometheus()
