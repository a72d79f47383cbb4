"""The baseline of each endpoint: bare Django views on the same server and database.

Each does the minimum: read the token, one query, JSON. No middleware, rate limit, access log,
permissions, validation or evidence.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import jwt
from django.conf import settings as django_settings
from django.contrib.auth.hashers import check_password
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone

from config.settings import *  # noqa: F403

ROOT_URLCONF = "benchmarks.load_bare"
MIDDLEWARE: list[str] = []
TABLE = """CREATE TABLE IF NOT EXISTS bare_entry (id bigserial PRIMARY KEY, user_id bigint,
action text, resource_type text, resource_id text, details jsonb, at timestamptz DEFAULT now())"""


def user_id(request: HttpRequest) -> int:
    """Return the user of the token, after checking its signature."""
    token = request.headers["Authorization"].partition(" ")[2]
    key = django_settings.SECRET_KEY
    return int(jwt.decode(token, key, algorithms=["HS256"], issuer="myometrics-backend")["user_id"])


def rows(statement: str, values: list[Any]) -> list[dict[str, Any]]:
    """Return one query's rows as dictionaries."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def sign_in(request: HttpRequest) -> JsonResponse:
    """Find the user by e-mail address, and check the hash; issues no tokens."""
    body = json.loads(request.body)
    (found,) = rows(
        "SELECT id, password FROM myometrics_auth_user WHERE email = %s", [body["email"]]
    )
    return JsonResponse({"ok": check_password(body["password"], found["password"])})


def profile(request: HttpRequest) -> JsonResponse:
    """Return the user's row."""
    (found,) = rows(
        "SELECT id, email, first_name, last_name, role, clinic_name, date_joined, is_active"
        " FROM myometrics_auth_user WHERE id = %s",
        [user_id(request)],
    )
    return JsonResponse(found)


def activity(request: HttpRequest) -> JsonResponse:
    """Return the ten latest uploads."""
    found = rows(
        "SELECT upload_id, filename, status, uploaded_at FROM myometrics_analytics_upload"
        " WHERE user_id = %s ORDER BY uploaded_at DESC LIMIT 10",
        [user_id(request)],
    )
    return JsonResponse({"recent_uploads": found})


def write(request: HttpRequest) -> JsonResponse:
    """Insert one row into a table without evidence."""
    body = json.loads(request.body)
    found = rows(
        "INSERT INTO bare_entry (user_id, action, resource_type, resource_id, details)"
        " VALUES (%s, %s, %s, %s, %s) RETURNING *",
        [
            user_id(request),
            body["action"],
            body["resource_type"],
            body["resource_id"],
            json.dumps(body["details"]),
        ],
    )
    return JsonResponse(found[0], status=201)


def entries(request: HttpRequest) -> JsonResponse:
    """Return the newest twenty entries, without a count."""
    user_id(request)
    found = rows(
        "SELECT id, user_id, action, resource_type, resource_id, timestamp, ip_address,"
        " user_agent, details FROM myometrics_audit_auditlog ORDER BY timestamp DESC, id DESC"
        " LIMIT 20",
        [],
    )
    return JsonResponse({"results": found})


def analytics(request: HttpRequest) -> JsonResponse:
    """Return thirty days of a precomputed table."""
    user_id(request)
    start = timezone.now().date() - timedelta(days=29)
    found = rows(
        "SELECT day, uploads, completed, failed FROM myometrics_analytics_dayrollup"
        " WHERE day >= %s ORDER BY day",
        [start],
    )
    return JsonResponse({"daily_uploads": found})


def ready(request: HttpRequest) -> JsonResponse:
    """Report readiness."""
    return JsonResponse({})


urlpatterns = [
    path("readyz", ready),
    path("api/auth/login/", sign_in),
    path("api/auth/user/", profile),
    path("api/users/me/activity/", activity),
    path("api/audit-logs/write/", write),
    path("api/audit-logs/", entries),
    path("api/analytics/", analytics),
]
