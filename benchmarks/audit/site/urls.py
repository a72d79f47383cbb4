"""Ours under ``ours/``, the straightforward way under ``plain/``, the baseline under ``bare/``."""

from django.urls import include, path
from rest_framework.routers import DefaultRouter

from . import bare
from .straightforward import PlainEntriesViewSet, PlainLogViewSet

router = DefaultRouter()
router.register("audit-logs", PlainLogViewSet)
router.register("entries", PlainEntriesViewSet)

urlpatterns = [
    path("ours/", include("myometrics_audit.urls")),
    path("plain/", include(router.urls)),
    path("bare/audit-logs/", bare.audit_logs),
    path("bare/access-report/", bare.access_report),
]
