"""Tests of the composed site: routes, error pages, schema, admin, commands."""

import io
import json

import pytest
from demo.users import PASSWORD as DEMO_PASSWORD
from demo.users import USERS
from django.apps import apps
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from myometrics_audit.models import AuditLog

OURS = [model for model in apps.get_models() if model.__module__.startswith("myometrics_")]


@pytest.mark.parametrize(
    "path", ["/api/", "/api/nothing", "/api/users/me/none/", "/api/auth/login"]
)
@pytest.mark.parametrize("method", ["get", "post", "put", "delete"])
def test_unknown_path_under_prefix_is_json_404(anonymous_client, path, method):
    response = getattr(anonymous_client, method)(path, HTTP_ACCEPT="text/html")
    assert response.status_code == 404
    assert response.json() == {
        "detail": "There is nothing at this address.",
        "code": "not_found",
        "field_errors": {},
    }


PROTECTED = {
    "/api/auth/user/": "get",
    "/api/auth/change-password/": "post",
    "/api/auth/reauthenticate/": "post",
    "/api/auth/sessions/": "get",
    "/api/users/": "get",
    "/api/users/1/": "get",
    "/api/users/me/": "delete",
    "/api/users/me/export/": "get",
    "/api/users/me/activity/": "get",
    "/api/users/1/activity/": "get",
    "/api/users/me/notifications/": "get",
    "/api/analytics/": "get",
    "/api/audit-logs/": "get",
    "/api/health/": "get",
    "/api/auth/logout/": "post",
}


@pytest.mark.django_db
@pytest.mark.parametrize("path", PROTECTED)
@pytest.mark.parametrize(
    "token", [None, "Bearer", "Bearer x", "Bearer a.b.c", "Bearer \u00e9", "x"]
)
def test_request_without_valid_token_is_json_401(anonymous_client, path, token):
    headers = {} if token is None else {"HTTP_AUTHORIZATION": token}
    response = getattr(anonymous_client, PROTECTED[path])(path, **headers)
    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith("Bearer")
    assert set(response.json()) == {"detail", "code", "field_errors"}


ADMINISTRATORS_ONLY = [
    "/api/users/",
    "/api/users/1/",
    "/api/users/1/activity/",
    "/api/analytics/",
    "/api/audit-logs/",
]


@pytest.mark.parametrize("path", ADMINISTRATORS_ONLY)
def test_administrator_endpoint_is_403_for_others(as_doctor, path):
    response = as_doctor.get(path)
    assert response.status_code == 403
    assert response.json()["code"] == "permission_denied"


def test_schema_is_public_and_ignores_accept_header(anonymous_client):
    for accept in ("application/json", "image/png", "text/html", "*/*"):
        response = anonymous_client.get("/api/schema/", HTTP_ACCEPT=accept)
        assert response.status_code == 200
        assert json.loads(response.content)["openapi"].startswith("3.")


def test_schema_has_every_specified_endpoint(anonymous_client):
    paths = json.loads(anonymous_client.get("/api/schema/").content)["paths"]
    expected = {
        "/api/auth/login/": {"post"},
        "/api/auth/register/": {"post"},
        "/api/auth/logout/": {"post"},
        "/api/auth/user/": {"get", "put", "patch"},
        "/api/auth/change-password/": {"post"},
        "/api/auth/password-reset/": {"post"},
        "/api/auth/password-reset/confirm/": {"post"},
        "/api/auth/token/refresh/": {"post"},
        "/api/users/": {"get"},
        "/api/users/{id}/": {"get", "put", "patch", "delete"},
        "/api/users/me/": {"delete"},
        "/api/users/me/export/": {"get"},
        "/api/users/me/activity/": {"get"},
        "/api/users/{id}/activity/": {"get"},
        "/api/users/me/notifications/": {"get", "patch"},
        "/api/analytics/": {"get"},
        "/api/audit-logs/": {"get", "post"},
        "/api/health/": {"get"},
    }
    found = {path: set(methods) - {"parameters"} for path, methods in paths.items()}
    normalised = {path.replace("{user_id}", "{id}"): methods for path, methods in found.items()}
    for path, methods in expected.items():
        assert methods <= normalised.get(path, set()), path


def test_documentation_page_needs_no_other_host(anonymous_client):
    page = anonymous_client.get("/api/docs/").content.decode()
    assert "swagger-ui" in page
    assert "//cdn" not in page
    assert "/static/drf_spectacular_sidecar/" in page


@pytest.fixture
def staff(db):
    client = Client()
    client.force_login(
        get_user_model().objects.create_superuser(email="root@clinic.example", password="x")
    )
    return client


@pytest.mark.parametrize("model", OURS, ids=lambda model: model._meta.label)
def test_every_model_admin_lists_and_searches(staff, model):
    meta = model._meta
    assert admin.site.is_registered(model), f"{meta.label} has no admin"
    url = reverse(f"admin:{meta.app_label}_{meta.model_name}_changelist")
    assert staff.get(url).status_code == 200
    assert staff.get(url, {"q": "a"}).status_code == 200


def test_audit_entries_are_read_only_in_admin(staff, as_administrator):
    entry = AuditLog.objects.first()
    url = reverse("admin:myometrics_audit_auditlog_change", args=[entry.pk])
    assert staff.get(url).status_code == 200
    assert staff.post(url, {"action": "forged"}).status_code == 403
    assert staff.get(reverse("admin:myometrics_audit_auditlog_add")).status_code == 403
    assert staff.post(
        reverse("admin:myometrics_audit_auditlog_delete", args=[entry.pk])
    ).status_code in (403, 404)


@pytest.mark.django_db
def test_demo_data_is_created_once_through_audit_log(settings):
    settings.DEBUG = True
    call_command("seed_demo", days=10, stdout=io.StringIO())
    entries = AuditLog.objects.count()
    assert entries > 50
    call_command("seed_demo", days=10, stdout=io.StringIO())
    assert AuditLog.objects.count() == entries
    for user in USERS:
        answer = APIClient().post(
            "/api/auth/login/", {"email": user.email, "password": DEMO_PASSWORD}, format="json"
        )
        assert answer.status_code == 200
        assert answer.json()["user"]["role"] == user.role
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {answer.json()['access']}")
    assert client.get("/api/users/me/activity/").json()["recent_uploads"]


@pytest.mark.django_db
def test_demo_data_needs_debug():
    with pytest.raises(CommandError, match="DEBUG"):
        call_command("seed_demo")
    with pytest.raises(CommandError, match="DEBUG"):
        call_command("demo")
    assert not AuditLog.objects.exists()


def test_superuser_from_environment_is_administrator(db, monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_EMAIL", "Root@Clinic.example")
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct-horse-battery")
    call_command("createsuperuser", "--noinput", stdout=io.StringIO())
    answer = APIClient().post(
        "/api/auth/login/",
        {"email": "root@clinic.example", "password": "correct-horse-battery"},
        format="json",
    )
    assert answer.json()["user"]["role"] == "admin"


def test_site_passes_checks_and_has_no_missing_migrations(db):
    call_command("check", stdout=io.StringIO())
    call_command("makemigrations", "--check", "--dry-run", stdout=io.StringIO())
