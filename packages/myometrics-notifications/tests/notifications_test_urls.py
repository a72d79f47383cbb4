from django.contrib import admin
from django.urls import include, path

from myometrics_testing.clinic_site.models import Person

if not admin.site.is_registered(Person):
    admin.site.register(Person)

urlpatterns = [
    path("api/", include("myometrics_notifications.urls")),
    path("admin/", admin.site.urls),
]
