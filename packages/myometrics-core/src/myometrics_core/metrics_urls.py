"""``metrics``, to be included at the site's root; needs the extra ``metrics``."""

from django.urls import path

from .prometheus import metrics

urlpatterns = [path("metrics", metrics, name="metrics")]
