"""URLs of the published tree: ``path("audit-log/", include("myometrics_audit.checkpoints.urls"))``.

They are public, and don't belong under the API's prefix.
"""

from django.urls import path, re_path

from . import views

app_name = "myometrics_audit_checkpoints"

WIDTH = r"(?:[1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5])"
LEVEL = r"(?:entries|[0-9]|[1-5][0-9]|6[0-3])"
INDEX = r"(?:x[0-9]{3}/){0,6}[0-9]{3}"
TILE = rf"^tile/(?P<path>{LEVEL}/{INDEX}(?:\.p/{WIDTH})?)\Z"

urlpatterns = [
    path("checkpoint", views.checkpoint, name="checkpoint"),
    re_path(TILE, views.tile, name="tile"),
]
