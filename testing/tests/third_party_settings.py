"""Settings and code of a third-party site before it installs our packages."""

from __future__ import annotations

UUID_USER = """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models

class Person(AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
"""

SETTINGS = """
INSTALLED_APPS += ["rest_framework.authtoken"]
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "rest_framework.authentication.TokenAuthentication",
    ],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1000/day"},
    "EXCEPTION_HANDLER": "clinic.api.in_our_shape",
    "DATETIME_FORMAT": "%d.%m.%Y",
    "PAGE_SIZE": 7,
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"own": {"class": "logging.FileHandler", "filename": BASE_DIR / "own.log"}},
    "root": {"handlers": ["own"], "level": "ERROR"},
}
CELERY_BROKER_URL = "memory://localhost/"
CELERY_TASK_DEFAULT_QUEUE = "clinic"
CELERY_BEAT_SCHEDULE = {"nightly": {"task": "clinic.nightly", "schedule": 86400.0}}
"""

API = """
from datetime import datetime, timezone
from rest_framework import exceptions, serializers, views
from rest_framework.response import Response

def in_our_shape(error, context):
    return Response({"clinic_error": str(error)}, status=error.status_code)

class Visit(serializers.Serializer):
    at = serializers.DateTimeField()

class Visits(views.APIView):
    def get(self, request):
        return Response(Visit({"at": datetime(2026, 1, 31, tzinfo=timezone.utc)}).data)

class Missing(views.APIView):
    def get(self, request):
        raise exceptions.NotFound("no such visit")
"""

URLS = """
from rest_framework.authtoken.views import obtain_auth_token
from rest_framework_simplejwt.views import TokenObtainPairView
from clinic.api import Missing, Visits
urlpatterns += [
    path("own/token/", obtain_auth_token),
    path("own/jwt/", TokenObtainPairView.as_view()),
    path("own/visits/", Visits.as_view()),
    path("own/missing/", Missing.as_view()),
]
"""

CELERY = """
from celery import Celery
app = Celery("clinic")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""
