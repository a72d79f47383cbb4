"""Our packages in a site that has settings, users, an API and tests of its own.

The site follows the quickstart of each package, and is unchanged for its own users: its
responses, its checks and its tests. On the oldest and the newest Django.
"""

from __future__ import annotations

import json

import pytest
from environments import rows
from existing_site import DERIVED, ExistingSite
from third_party_site import ThirdPartySite
from whole_site import make_environment

from myometrics_testing.commands.repository import PACKAGES, PREFIX

pytestmark = pytest.mark.long

OURS = {
    "core": "/api/health/",
    "audit": "/api/audit-logs/",
    "analytics": "/api/analytics/",
    "notifications": "/api/users/me/notifications/",
}
EXTRAS = {"audit": "[checkpoints]", "auth": "[oidc,passkeys,scim]"}
RETAIN = 'MYOMETRICS_AUDIT = {"ON_USER_DELETE": "retain"}'
OWN = "own_model, own_classes = AUTH_USER_MODEL, REST_FRAMEWORK"
KEPT = """
AUTH_USER_MODEL = own_model
added = REST_FRAMEWORK["DEFAULT_AUTHENTICATION_CLASSES"]
REST_FRAMEWORK = {
    **own_classes,
    "DEFAULT_AUTHENTICATION_CLASSES": [
        *own_classes["DEFAULT_AUTHENTICATION_CLASSES"], *added
    ],
}
"""
EXPECTED = {
    "myometrics_core.W010",  # DEBUG is off, and nothing counts requests but core's own memory
    "myometrics_auth.W016",  # quick hashes, for tests
    "myometrics_auth.W034",  # API_URL is not set
    "myometrics_notifications.W011",
}
AUDIT_APPS = """
INSTALLED_APPS = [*INSTALLED_APPS, *(f"myometrics_audit.{name}" for name in (
    "access_report", "checkpoints", "importing", "legal_hold", "review", "streams"))]
MYOMETRICS_AUDIT = {
    "CHECKPOINT_KEY_FILE": BASE_DIR.with_suffix(".key"),
    "STREAMS": {"vault": {"url": "storage://default/log", "format": "proofs"}},
}
from django.conf import global_settings
STORAGES = {
    **global_settings.STORAGES,
    "audit_checkpoints": {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": BASE_DIR / "tiles"},
    },
}
"""
AUDIT_URLS = """
urlpatterns += [
    path("api/", include("myometrics_audit.review.urls")),
    path("audit-log/", include("myometrics_audit.checkpoints.urls")),
]
"""
AUDIT_TEST_SETTINGS = """
from .settings import MYOMETRICS_AUDIT
MYOMETRICS_AUDIT["ALLOW_FLUSH"] = True
"""
AUTH_APPS = """
import sys
OPT_IN = ["federation", "passkeys", *(["scim"] if sys.version_info >= (3, 11) else [])]
INSTALLED_APPS = [*INSTALLED_APPS, *(f"myometrics_auth.{name}" for name in OPT_IN)]
MYOMETRICS_AUTH = {
    "PASSKEY_RP_ID": "clinic.example",
    "PASSKEY_ORIGINS": ["https://app.clinic.example"],
    "IDENTITY_PROVIDERS": {"entra": {"issuer": "https://entra.example", "client_id": "1"}},
    "SCIM": {"entra": {"roles": {}}},
}
"""
AUTH_URLS = """
from django.conf import settings
urlpatterns += [
    path("scim/v2/" if name == "scim" else "api/", include(f"myometrics_auth.{name}.urls"))
    for name in settings.OPT_IN
]
"""
SPARSE = {
    "people/__init__.py": "",
    "people/migrations/__init__.py": "",
    "people/models.py": """
from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.db import models

class Person(AbstractBaseUser):
    login = models.CharField(max_length=40, unique=True)
    USERNAME_FIELD = "login"
    role = "admin"
    objects = BaseUserManager()
""",
    "clinic/settings.py": """
INSTALLED_APPS = ("django.contrib.contenttypes", "django.contrib.auth", "people",
    "rest_framework", "myometrics_core", "myometrics_core.health_log", "myometrics_audit",
    "myometrics_analytics", "myometrics_notifications")
AUTH_USER_MODEL = "people.Person"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES["default"]["ATOMIC_REQUESTS"] = True
MIDDLEWARE = ()
TEMPLATES = TEMPLATES[:1]
TEMPLATES[0]["OPTIONS"] = {}
USE_I18N = APPEND_SLASH = False
LANGUAGE_CODE = "de"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.BasicAuthentication"],
}
""",
}
SPARSE_URLS = """
from django.urls import include, path
urlpatterns = [
    path("api/", include(f"myometrics_{name}.urls"))
    for name in ("core", "audit", "analytics", "notifications")
]
"""
ASK = f"""
import base64, json
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.test import Client
root = get_user_model()(login="root")
root.set_password("correct-horse")
root.save()
known = base64.b64encode(b"root:correct-horse").decode()
client = Client(HTTP_AUTHORIZATION=f"Basic {{known}}", HTTP_HOST="localhost")
answers = [client.get(path).status_code for path in {list(OURS.values())!r}]
ids = [message.id for message in run_checks()]
print(json.dumps({{"get": answers, "ids": ids}}))
"""


@pytest.fixture(scope="module", params=rows(), ids=str)
def python(request, wheels, tmp_path_factory):
    """The Python of an environment with all packages."""
    folder = tmp_path_factory.mktemp(f"existing-{request.param.name}")
    return make_environment(folder, request.param, map(with_extras, wheels.glob("*.whl")))


@pytest.fixture(scope="module")
def before(python, tmp_path_factory):
    """The site's snapshot before our packages are installed."""
    return ExistingSite(tmp_path_factory.mktemp("before"), python).seen()


def with_extras(wheel):
    """The wheel with the extras of its opt-in apps."""
    package = wheel.name.split("-")[0].removeprefix("myometrics_")
    return f"{wheel}{EXTRAS.get(package, '')}"


def readme(package):
    return (PACKAGES / f"{PREFIX}{package}" / "README.md").read_text()


def changes(before, seen):
    """The differences between the snapshot and that before."""
    pairs = {
        **{name: (before[name], seen[name]) for name in ("checks", "tests")},
        **{request: (old, seen["answers"][request]) for request, old in before["answers"].items()},
    }
    return {name: new for name, (old, new) in pairs.items() if old != new}


def unexpected(seen):
    """Messages of our own checks beside those about this site's choices."""
    return [message for message in seen["ours"] if message[0] not in EXPECTED]


def test_existing_site_is_unchanged_with_our_packages(python, before, tmp_path):
    site = ExistingSite(tmp_path, python)
    paths: list[str] = []
    for packages in (("core", "audit"), ("analytics", "notifications")):
        for package in packages:
            site.follow_quickstart(readme(package))
            paths.append(OURS[package])
        seen = site.seen(*paths)
        assert changes(before, seen) == {}, packages
        assert seen["asked"] == dict.fromkeys(paths, 200)
        assert unexpected(seen) == []
    site.write("clinic/settings.py", RETAIN)
    # Neither soft deletion nor a global delete receiver prevents the deletion of a row.
    assert site.delete_users() == [[False, None, True, ["Person"]]] * 2


def test_existing_site_is_unchanged_with_derived_users(python, before, tmp_path):
    site = ExistingSite(tmp_path, python, user=DERIVED)
    site.write("clinic/settings.py", OWN)
    site.follow_quickstart(readme("auth"))
    site.write("clinic/settings.py", KEPT)
    seen = site.seen("/api/auth/user/")
    # The site now accepts our tokens, and rejects an invalid one.
    assert [name for name in changes(before, seen) if "Bearer" not in name] == []
    assert seen["asked"] == {"/api/auth/user/": 200}
    assert unexpected(seen) == []


def test_existing_site_is_unchanged_with_opt_in_apps_of_audit(python, before, tmp_path):
    site = ExistingSite(tmp_path, python)
    site.follow_quickstart(readme("audit"))
    key = tmp_path.with_suffix(".key")
    site.manage("audit_key", "--name", "clinic.example/log", "--output", str(key))
    site.write("clinic/settings.py", AUDIT_APPS)
    site.write("clinic/urls.py", AUDIT_URLS)
    site.write("clinic/test_settings.py", AUDIT_TEST_SETTINGS)
    report = "/api/audit-logs/access-report/?data_subject=p1"
    seen = site.seen("/api/audit-logs/", report)
    assert changes(before, seen) == {}
    assert seen["asked"] == {"/api/audit-logs/": 200, report: 200}
    assert unexpected(seen) == []


def test_existing_site_is_unchanged_with_opt_in_apps_of_auth(python, before, tmp_path):
    site = ExistingSite(tmp_path, python, user=DERIVED)
    site.write("clinic/settings.py", OWN)
    site.follow_quickstart(readme("auth"))
    site.write("clinic/settings.py", KEPT + AUTH_APPS)
    site.write("clinic/urls.py", AUTH_URLS)
    asked = ["/api/auth/user/", "/api/auth/providers/", "/api/auth/passkeys/"]
    seen = site.seen(*asked)
    assert [name for name in changes(before, seen) if "Bearer" not in name] == []
    assert seen["asked"] == dict.fromkeys(asked, 200)
    assert unexpected(seen) == []


def test_site_without_admin_sessions_and_emails_works(python, tmp_path):
    site = ThirdPartySite(tmp_path, python)
    for name, text in SPARSE.items():
        site.write(name, text)
    (tmp_path / "clinic" / "urls.py").write_text(SPARSE_URLS)
    site.manage("makemigrations", "people")
    site.manage("makemigrations", "--check")
    site.manage("migrate")
    answered = json.loads(site.manage("shell", "-c", ASK).splitlines()[-1])
    assert answered == {"get": [200, 200, 200, 200], "ids": ["myometrics_notifications.W010"]}
