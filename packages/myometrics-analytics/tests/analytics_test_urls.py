from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/", include("myometrics_analytics.urls")),
    path("admin/", admin.site.urls),
]
