"""Custom admin sites beside the default one."""

from django.contrib import admin
from django.urls import include, path

from myometrics_auth.admin_site import AuthAdminSite


class ClinicSite(AuthAdminSite):
    site_header = "North Clinic"


class DoctorsSite(AuthAdminSite):
    def may_sign_in(self, user):
        return user.is_active

    def has_permission(self, request):
        return super().has_permission(request) or request.user.is_active


urlpatterns = [
    path("api/", include("myometrics_auth.urls")),
    path("admin/", admin.site.urls),
    path("clinic/", ClinicSite("clinic").urls),
    path("doctors/", DoctorsSite("doctors").urls),
]
