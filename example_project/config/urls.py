"""Routes of the composed site: the packages under ``/api/``, besides probes and the admin."""

from django.conf import settings
from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.generic import RedirectView

from myometrics_core.api import UnknownPathView

from .schema import DocsView, SchemaView

api: list[URLPattern | URLResolver] = [
    path("schema/", SchemaView.as_view(), name="schema"),
    path("docs/", DocsView.as_view(url_name="schema"), name="docs"),
    path("", include("myometrics_core.urls")),
    path("", include("myometrics_audit.urls")),
    path("", include("myometrics_audit.review.urls")),
    path("", include("myometrics_analytics.urls")),
    path("", include("myometrics_notifications.urls")),
    path("", include("myometrics_auth.urls")),
    path("", include("myometrics_auth.passkeys.urls")),
    re_path(r"", UnknownPathView.as_view()),
]

if settings.IDENTITY_PROVIDERS:
    api.insert(0, path("", include("myometrics_auth.federation.urls")))

admin.site.site_header = admin.site.site_title = "MyoMetrics"

urlpatterns = [
    path("api/", include(api)),
    path("", include("myometrics_core.health.probe_urls")),
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="docs")),
]

if settings.METRICS_TOKEN or settings.METRICS_NETWORKS:
    urlpatterns.insert(0, path("", include("myometrics_core.observability.metrics_urls")))

if settings.AUDIT_CHECKPOINT_KEY:
    urlpatterns.insert(0, path("audit-log/", include("myometrics_audit.checkpoints.urls")))

if settings.SCIM_PROVIDERS:
    urlpatterns.insert(0, path("scim/v2/", include("myometrics_auth.scim.urls")))

handler400 = "config.error_pages.bad_request"
handler403 = "config.error_pages.forbidden"
handler404 = "config.error_pages.not_found"
handler500 = "config.error_pages.server_error"
