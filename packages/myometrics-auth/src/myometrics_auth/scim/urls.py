"""Routes of SCIM. Mount them at ``scim/v2/``; a provider's address is ``/scim/v2/<slug>/``."""

from django.urls import path

from .views import ScimView

app_name = "myometrics_scim"
urlpatterns = [
    path("<slug:slug>/<path:path>", ScimView.as_view(), name="resource"),
    path("<slug:slug>/", ScimView.as_view(), {"path": ""}, name="root"),
]
