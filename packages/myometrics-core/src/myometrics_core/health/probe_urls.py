"""URLs ``livez`` and ``readyz``; include them at the site's root."""

from django.urls import path

from .health_views import livez, readyz

urlpatterns = [path("livez", livez, name="livez"), path("readyz", readyz, name="readyz")]
