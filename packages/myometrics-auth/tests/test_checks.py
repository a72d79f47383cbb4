"""System checks of unsafe settings."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib import admin, auth
from django.contrib.admin import AdminSite
from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth import authenticate, login
from django.contrib.auth.views import LoginView, LogoutView, PasswordResetConfirmView
from django.core.checks import run_checks
from django.urls import include, path, re_path, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View
from rest_framework.authtoken.views import ObtainAuthToken
from rest_framework_simplejwt.views import TokenObtainPairView

from myometrics_auth.admin_site import AuthAdminSite

SAFE_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]


@pytest.fixture(autouse=True)
def _safe(settings):
    settings.PASSWORD_HASHERS = SAFE_HASHERS


def found():
    return {message.id for message in run_checks() if message.id.startswith("myometrics_auth.")}


def test_links_to_localhost_are_reported(settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "API_URL": "http://localhost:8001/api"}
    assert "myometrics_auth.W034" in found()
    settings.DEBUG = True
    assert "myometrics_auth.W034" not in found()


def test_providers_without_their_app_are_reported(settings):
    provider = {"issuer": "https://id.clinic.example", "client_id": "x"}
    settings.MYOMETRICS_AUTH = {"IDENTITY_PROVIDERS": {"hospital": provider}}
    assert "myometrics_auth.W035" not in found()
    app = "myometrics_auth.federation"
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != app]
    assert "myometrics_auth.W035" in found()


def test_safe_site_has_no_warnings():
    assert found() == set()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ([], "E001"),
        ({"RECORD_SIGN_IN": False}, "E002"),
        ({"RECORD_SIGN_INS": "yes"}, "E003"),
        ({"ACCESS_TOKEN_LIFETIME": 900}, "E003"),
        ({"ACCESS_TOKEN_LIFETIME": timedelta(0)}, "E003"),
        ({"FAILED_SIGN_IN_LIMIT": 0}, "E003"),
        ({"MFA_REQUIRED_ROLES": ["nurse"]}, "E003"),
        ({"ADMIN_LOGIN": "no"}, "E003"),
        ({"MFA_ENCRYPTION_KEYS": []}, "E003"),
        ({"SIGNING_KEY": "x" * 31}, "W010"),
        ({"SIGNING_KEYS": ["x" * 31]}, "W010"),
        ({"SIGNING_KEYS": ["y" * 32, "x" * 31]}, "W010"),
        ({"SIGNING_KEYS": []}, "E003"),
        ({"SIGNING_KEYS": ["y" * 32, ""]}, "E003"),
        ({"SIGNING_KEYS": ["y" * 32, None]}, "E003"),
        ({"SIGNING_KEYS": "y" * 32}, "E003"),
        ({"MFA_ENCRYPTION_KEYS": ["x" * 31]}, "W011"),
        ({"ACCESS_TOKEN_LIFETIME": timedelta(minutes=16)}, "W012"),
        ({"REFRESH_TOKEN_LIFETIME": timedelta(days=8)}, "W013"),
        ({"SESSION_IDLE_TIMEOUT": timedelta(0)}, "E003"),
        ({"SESSION_IDLE_TIMEOUT": 1800}, "E003"),
        ({"SESSION_IDLE_TIMEOUT": timedelta(days=8)}, "W033"),
        ({"SESSIONS_PER_USER": 0}, "E003"),
        ({"SESSIONS_PER_USER": True}, "E003"),
        ({"ROTATE_REFRESH_TOKENS": 1}, "E003"),
        ({"REAUTHENTICATE_FOR": ["export", "login"]}, "E003"),
        ({"REAUTHENTICATE_FOR": "export"}, "E003"),
        ({"REAUTHENTICATE_FOR": [["export"]]}, "E003"),
        ({"SCIM": ["entra"]}, "E003"),
        ({"SCIM": {"a b": {}}}, "E003"),
        ({"SCIM": {"a/b": {}}}, "E003"),
        ({"SCIM": {"": {}}}, "E003"),
        ({"SCIM": {"entra": "admin"}}, "E003"),
        ({"SCIM": {"entra": {"role": {}}}}, "E003"),
        ({"SCIM": {"entra": {"roles": ["admin"]}}}, "E003"),
        ({"SCIM": {"entra": {"roles": {"Admins": "boss"}}}}, "E003"),
        ({"SCIM": {"entra": {"roles": {"Admins": ["admin"]}}}}, "E003"),
    ],
)
def test_unsafe_setting_is_reported(settings, value, number):
    settings.MYOMETRICS_AUTH = value
    assert found() == {f"myometrics_auth.{number}"}


@pytest.mark.parametrize(
    ("name", "value", "numbers"),
    [
        ("SECRET_KEY", "short", {"W010", "W011"}),
        ("SECRET_KEY_FALLBACKS", ["short"], {"W010", "W011"}),
        ("PASSWORD_RESET_TIMEOUT", 7 * 86400, {"W014"}),
        ("AUTH_PASSWORD_VALIDATORS", [], {"W015"}),
        ("PASSWORD_HASHERS", ["django.contrib.auth.hashers.MD5PasswordHasher"], {"W016"}),
    ],
)
def test_unsafe_django_setting_is_reported(settings, name, value, numbers):
    setattr(settings, name, value)
    assert found() == {f"myometrics_auth.{number}" for number in numbers}


def test_user_model_without_required_fields_is_an_error():
    site = """
from django.conf import settings
from myometrics_testing.settings import package_settings
settings.configure(**package_settings(apps=["myometrics_auth"], urls="auth_test_urls"))
import django; django.setup()
from django.core.checks import run_checks
print([message.id for message in run_checks() if message.is_serious()])
"""
    command = [sys.executable, "-c", site]
    folder = Path(__file__).parent
    output = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    assert output.strip() == "['myometrics_auth.E010']"


def hosts_function_view(request):
    login(request, authenticate(request, **request.POST.dict()))


def hosts_view_by_module(request):
    auth.login(request, request.user)


def hosts_view_by_its_own_function(request):
    return hosts_function_view(request)


def hosts_harmless_view(request):
    return reverse("login")


class HostsLoginView(LoginView):
    pass


class HostsClassView(View):
    def post(self, request):
        return self.sign_in(request)

    def sign_in(self, request):
        def inner():
            auth.login(request, request.user)

        return inner()


class OwnLoginSite(AdminSite):
    pass


class DerivedSite(AuthAdminSite):
    site_header = "North Clinic"


def urls(*patterns):
    return type("Urls", (), {"urlpatterns": [path("admin/", admin.site.urls), *patterns]})


@pytest.mark.parametrize(
    ("pattern", "route"),
    [
        (path("accounts/", include("django.contrib.auth.urls")), "/accounts/login/"),
        (path("api-auth/", include("rest_framework.urls")), "/api-auth/login/"),
        (path("in/", HostsLoginView.as_view()), "/in/"),
        (path("in/", HostsClassView.as_view()), "/in/"),
        (path("in/", PasswordResetConfirmView.as_view(post_reset_login=True)), "/in/"),
        (path("in/", csrf_exempt(never_cache(hosts_function_view))), "/in/"),
        (path("in/", hosts_view_by_module), "/in/"),
        (path("in/", hosts_view_by_its_own_function), "/in/"),
        (re_path("^token/$", ObtainAuthToken.as_view()), "/^token/$"),
        (path("token/", TokenObtainPairView.as_view()), "/token/"),
        (path("clinic/", OwnLoginSite("clinic").urls), "/clinic/login/"),
    ],
)
def test_other_login_view_is_reported(settings, pattern, route):
    settings.ROOT_URLCONF = urls(pattern)
    messages = [message for message in run_checks() if message.id == "myometrics_auth.W030"]
    assert [message.msg.split()[0] for message in messages] == [route]


@pytest.mark.parametrize(
    "pattern",
    [
        path("clinic/", DerivedSite("clinic").urls),
        path("elsewhere/", hosts_harmless_view),
        path("out/", LogoutView.as_view()),
        path("reset/", PasswordResetConfirmView.as_view()),
        path("in/", staff_member_required(admin.site.login)),
        path("api/", include("myometrics_auth.urls")),
    ],
)
def test_views_without_login_are_not_reported(settings, pattern):
    settings.ROOT_URLCONF = urls(pattern)
    assert found() == set()


def test_replaced_default_admin_login_is_reported(settings):
    before = admin.site.__class__
    try:
        admin.site.__class__ = OwnLoginSite  # as packages for second factors document
        settings.ROOT_URLCONF = urls()
        assert found() == {"myometrics_auth.W030"}
    finally:
        admin.site.__class__ = before


def test_sessions_in_cookies_are_reported(settings):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert found() == {"myometrics_auth.W031"}


NO_DELIVERY = "django.core.mail.backends.console.EmailBackend"
SMTP = "django.core.mail.backends.smtp.EmailBackend"


@pytest.mark.parametrize(
    "setting", [{"EMAIL_VERIFICATION": "required"}, {"REGISTRATION": "invitation"}]
)
def test_required_mails_without_delivery_are_reported(settings, setting):
    settings.EMAIL_BACKEND = NO_DELIVERY
    assert "myometrics_auth.W050" not in found()
    settings.MYOMETRICS_AUTH = setting
    assert "myometrics_auth.W050" in found()
    settings.EMAIL_BACKEND = SMTP
    assert "myometrics_auth.W050" not in found()


def test_tokens_without_accepting_endpoint_are_reported(settings):
    settings.REST_FRAMEWORK = {
        "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"]
    }
    assert found() == {"myometrics_auth.W017"}
