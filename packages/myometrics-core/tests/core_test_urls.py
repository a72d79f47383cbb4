from django.urls import include, path, re_path
from myometrics_core.views import UnknownPathView

urlpatterns = [
    path("api/", include("myometrics_core.urls")),
    path("", include("myometrics_core.probe_urls")),
    re_path(r"^api/", UnknownPathView.as_view()),
]
