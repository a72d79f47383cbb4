"""URL ``metrics``; include it at the site's root. Needs the extra ``metrics``."""

from django.urls import path

from .prometheus import metrics

urlpatterns = [path("metrics", metrics, name="metrics")]
