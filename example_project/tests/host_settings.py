"""Prints what the API answers to one script of requests; run by ``test_host_settings.py``.

With ``HOSTILE=1`` every key of ``REST_FRAMEWORK`` but the authentication classes is set to a value
that would change an answer if it were respected, and so are Django's settings of formats.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from typing import Any

import composed_test_settings
from django.conf import settings
from rest_framework.negotiation import BaseContentNegotiation

HOSTILE_REST_FRAMEWORK = {
    "DEFAULT_RENDERER_CLASSES": [
        "rest_framework.renderers.StaticHTMLRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FormParser"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAdminUser"],
    "DEFAULT_THROTTLE_CLASSES": ["rest_framework.throttling.AnonRateThrottle"],
    "DEFAULT_THROTTLE_RATES": {"anon": "1/day", "user": "1/day"},
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "host_settings.NoNegotiation",
    "DEFAULT_METADATA_CLASS": None,
    "DEFAULT_VERSIONING_CLASS": "rest_framework.versioning.AcceptHeaderVersioning",
    "DEFAULT_VERSION": "1.0",
    "ALLOWED_VERSIONS": ["never"],
    "VERSION_PARAM": "page",
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.CursorPagination",
    "PAGE_SIZE": 1,
    "DEFAULT_FILTER_BACKENDS": ["rest_framework.filters.SearchFilter"],
    "SEARCH_PARAM": "page",
    "ORDERING_PARAM": "page_size",
    "DEFAULT_SCHEMA_CLASS": "rest_framework.schemas.openapi.AutoSchema",
    "NUM_PROXIES": 3,
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": "builtins.object",
    "VIEW_NAME_FUNCTION": "host_settings.fail",
    "VIEW_DESCRIPTION_FUNCTION": "host_settings.fail",
    "EXCEPTION_HANDLER": "rest_framework.views.exception_handler",
    "NON_FIELD_ERRORS_KEY": "problems",
    "LIST_SERIALIZER_ERRORS_AS_DICT": False,
    "TEST_REQUEST_RENDERER_CLASSES": ["rest_framework.renderers.MultiPartRenderer"],
    "TEST_REQUEST_DEFAULT_FORMAT": "multipart",
    "URL_FORMAT_OVERRIDE": "page",
    "FORMAT_SUFFIX_KWARG": "user_id",
    "URL_FIELD_NAME": "id",
    "DATE_FORMAT": "%d.%m.%Y",
    "DATE_INPUT_FORMATS": ["%d.%m.%Y"],
    "DATETIME_FORMAT": "%d.%m.%Y",
    "DATETIME_INPUT_FORMATS": ["%d.%m.%Y"],
    "TIME_FORMAT": "%H",
    "TIME_INPUT_FORMATS": ["%H"],
    "DURATION_FORMAT": "iso-8601",
    "UNICODE_JSON": False,
    "COMPACT_JSON": False,
    "STRICT_JSON": False,
    "COERCE_DECIMAL_TO_STRING": False,
    "COERCE_BIGINT_TO_STRING": True,
    "UPLOADED_FILES_USE_URL": False,
    "HTML_SELECT_CUTOFF": 1,
    "HTML_SELECT_CUTOFF_TEXT": "x",
    "SCHEMA_COERCE_PATH_PK": False,
    "SCHEMA_COERCE_METHOD_NAMES": {},
}
HOSTILE_DJANGO = {
    "TIME_ZONE": "Asia/Kolkata",
    "USE_THOUSAND_SEPARATOR": True,
    "NUMBER_GROUPING": 1,
    "FIRST_DAY_OF_WEEK": 3,
    "DATE_INPUT_FORMATS": ["%d.%m.%Y"],
    "DEFAULT_CHARSET": "utf-16",
    "APPEND_SLASH": False,
    "DATA_UPLOAD_MAX_MEMORY_SIZE": 10,
    "DATA_UPLOAD_MAX_NUMBER_FIELDS": 3,
    "ATOMIC_REQUESTS": True,
}
HEADERS = ("Content-Type", "Content-Disposition", "Cache-Control", "Allow", "Vary", "Retry-After")
ENTRY = {"action": "viewed", "resource_type": "Röntgen", "resource_id": "7", "details": {"x": 1.5}}
UPLOAD = {
    "action": "upload_completed",
    "resource_type": "upload",
    "resource_id": "u-1",
    "details": {"filename": "Größe.dcm", "diagnosis": "Ödem", "processing_time": 1234.5},
}
LONG = dict.fromkeys(("email", "firstName", "action", "uid", "old_password"), "x" * 300)
SCRIPT: list[tuple[str, str, Any]] = [
    ("POST", "audit-logs/", ENTRY),
    ("POST", "audit-logs/", UPLOAD),
    ("GET", "audit-logs/?page=1&page_size=1", None),
    ("GET", "audit-logs/?start_date=2020-01-31&end_date=2050-01-31&user_id=1", None),
    ("GET", "audit-logs/?start_date=31.01.2020", None),
    ("GET", "audit-logs/?page=99", None),
    ("GET", "audit-logs/1/", None),
    ("GET", "analytics/?days=40", None),
    ("GET", "analytics/?days=x", None),
    ("GET", "users/", None),
    ("GET", "users/?search=ad&role=admin&page_size=1", None),
    ("GET", "users/1/", None),
    ("GET", "users/1/activity/", None),
    ("GET", "users/x/", None),
    ("PUT", "users/2/", {"firstName": "Zoë", "isActive": False}),
    ("PATCH", "users/2/", {"isActive": "yes"}),
    ("PATCH", "users/2/", []),
    ("DELETE", "users/3/", None),
    ("GET", "users/me/activity/", None),
    ("GET", "users/me/notifications/", None),
    ("PATCH", "users/me/notifications/", {"system_alerts": True}),
    ("PATCH", "users/me/notifications/", 5),
    ("GET", "users/me/export/?format=json", None),
    ("GET", "users/me/export/?format=csv", None),
    ("GET", "users/me/export/?format=xml", None),
    ("GET", "auth/user/", None),
    ("PATCH", "auth/user/", {"firstName": "Ada"}),
    ("PUT", "auth/user/", LONG),
    ("GET", "auth/sessions/", None),
    ("GET", "auth/mfa/", None),
    ("POST", "auth/mfa/enrol/", {"password": "wrong"}),
    ("POST", "auth/change-password/", {"old_password": "wrong", "new_password": "x"}),
    ("POST", "auth/reauthenticate/", {"password": "wrong"}),
    ("POST", "auth/login/", LONG),
    ("POST", "auth/login/", {"email": "ada@clinic.example", "password": "wrong"}),
    ("POST", "auth/login/", {"email": "ada@clinic.example", "password": "correct-horse-battery"}),
    ("POST", "auth/register/", LONG),
    ("POST", "auth/token/refresh/", {"refresh": "x"}),
    ("POST", "auth/token/refresh/", "x"),
    ("POST", "auth/password-reset/", {"email": "unknown@clinic.example"}),
    ("POST", "auth/password-reset/confirm/", LONG),
    ("GET", "notifications/unsubscribe/?token=x", None),
    ("GET", "health/", None),
    ("GET", "nowhere/", None),
    ("OPTIONS", "users/", None),
    ("DELETE", "users/me/", None),
    ("GET", "auth/user/", None),
]


class NoNegotiation(BaseContentNegotiation):
    """Fails if used."""

    def select_parser(self, *args):
        fail()

    def select_renderer(self, *args):
        fail()


def fail(*args):
    """Fails if called."""
    raise AssertionError("a setting of the host is used")


def configure(hostile):
    """Set up the composed site, with a host's settings or with its own."""
    own = {name: value for name, value in vars(composed_test_settings).items() if name.isupper()}
    own["PASSWORD_HASHERS"] = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    own["MYOMETRICS"] = {**own["MYOMETRICS"], "RATE_LIMITS": {"auth": None, "export": None}}
    own["ALLOWED_HOSTS"] = ["testserver"]
    if hostile:
        own |= HOSTILE_DJANGO
        own["REST_FRAMEWORK"] = {**HOSTILE_REST_FRAMEWORK, **own["REST_FRAMEWORK"]}
    settings.configure(**own)


def main():
    """Print one line for each request of the script."""
    configure(os.environ.get("HOSTILE") == "1")

    import django

    django.setup()

    from conftest import client_of, make_user
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    administrator = make_user("ada@clinic.example", role="admin", first_name="Ärztin")
    make_user("bob@clinic.example")
    make_user("root@clinic.example", role="admin")
    client = client_of(administrator)
    for method, path, body in SCRIPT:
        raw = b"" if body is None else json.dumps(body).encode()
        # Raw bytes: the client would encode text in DEFAULT_CHARSET.
        sent = {"wsgi.input": io.BytesIO(raw), "CONTENT_LENGTH": str(len(raw))}
        answer = client.generic(method, f"/api/{path}", content_type="application/json", **sent)
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        headers = {name: answer.get(name) for name in HEADERS}
        print(method, path, answer.status_code, headers, _comparable(content.decode()))


def _comparable(text):
    """``text`` without tokens, ids and digits of times, which differ between runs."""
    text = re.sub(r"ey[\w-]+\.[\w-]+\.[\w-]+", "<token>", text)
    text = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>", text)
    text = re.sub(r"(\d\d:\d\d:\d\d)\.\d+", r"\1", text)
    return re.sub(r"\d\d:\d\d:\d\d", "<time>", text)


if __name__ == "__main__":
    sys.modules["host_settings"] = sys.modules["__main__"]
    main()
