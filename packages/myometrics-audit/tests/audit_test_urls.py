from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("myometrics_audit.urls")),
    path("api/", include("myometrics_audit.review.urls")),
    path("clinic/", include("recording_site.urls")),
    path("audit-log/", include("myometrics_audit.checkpoints.urls")),
]
