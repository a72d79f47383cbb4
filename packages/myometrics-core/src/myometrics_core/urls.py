"""``health/`` under the API prefix. ``livez`` and ``readyz``: see :mod:`.probe_urls`."""

from django.urls import path

from .health.health_views import HealthView

app_name = "myometrics_core"
urlpatterns = [path("health/", HealthView.as_view(), name="health")]
