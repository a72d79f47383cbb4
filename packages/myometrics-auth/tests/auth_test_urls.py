from django.apps import apps
from django.contrib import admin
from django.contrib.auth import logout
from django.http import HttpResponse
from django.urls import include, path


def whoami(request):
    """A page of the host's that looks at nothing but ``request.user``."""
    return HttpResponse(getattr(request.user, "email", ""))


def sign_out(request):
    logout(request)
    return HttpResponse()


urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", include("myometrics_core.urls")),
    path("api/", include("myometrics_auth.federation.urls")),
    path("api/", include("myometrics_auth.urls")),
    path("whoami/", whoami),
    path("sign-out/", sign_out),
]

if apps.is_installed("myometrics_auth.passkeys"):
    urlpatterns.append(path("api/", include("myometrics_auth.passkeys.urls")))
if apps.is_installed("myometrics_auth.scim"):
    urlpatterns.append(path("scim/v2/", include("myometrics_auth.scim.urls")))
