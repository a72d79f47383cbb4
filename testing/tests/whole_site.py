"""A third-party site with all our packages, and API clients of its users."""

from __future__ import annotations

import secrets
import subprocess

import dj_database_url
import httpx
from environments import UV
from third_party_settings import CELERY
from third_party_site import PASSWORD, ThirdPartySite

from myometrics_testing.waiting import PATIENCE

APPS = [
    "rest_framework",
    *("myometrics_core", "myometrics_core.rate_limits", "myometrics_core.health_log"),
    *("myometrics_auth", "myometrics_audit", "myometrics_analytics", "myometrics_notifications"),
]
MAIL_TO_FILES = """
mail_backend = "django.core.mail.backends.filebased.EmailBackend"
if "MAILERS" in globals():  # what startproject of Django 6.1 writes
    mail_options = {"file_path": BASE_DIR / "mail"}
    MAILERS = {"default": {"BACKEND": mail_backend, "OPTIONS": mail_options}}
else:
    EMAIL_BACKEND = mail_backend
    EMAIL_FILE_PATH = BASE_DIR / "mail"
"""
SETTINGS = """
INSTALLED_APPS += {apps!r}
SECRET_KEY = {secret!r}
DATABASES = {{"default": {database!r}}}
AUTH_USER_MODEL = "myometrics_auth.User"
REST_FRAMEWORK = {{
    "DEFAULT_AUTHENTICATION_CLASSES": ["myometrics_auth.authentication.SessionTokenAuthentication"]
}}
MYOMETRICS = {{"RATE_LIMITS": {{"auth": None, "api": None, "export": None}}}}
MYOMETRICS_AUDIT = {{"KEYS": {{"2026": {secret!r}}}}}
"""
WITHOUT_RUNNER = 'MYOMETRICS["JOB_RUNNER"] = "none"'
"""Jobs run by ``manage.py jobs_run`` only."""
URLS = """
from django.urls import include
urlpatterns += [
    path("api/", include(f"myometrics_{name}.urls"))
    for name in ("core", "audit", "analytics", "notifications", "auth")
]
"""


def make_environment(folder, row, wheels):
    """The Python of a new environment in ``folder`` with ``wheels``, ``row``'s Django and psycopg.

    Django is pinned to what the row says, as hosts do.
    """
    subprocess.run([*UV, "-q", "venv", "-p", row.interpreter(), str(folder)], check=True)
    python = folder / "bin" / "python"
    install(python, row, wheels)
    return python


def install(python, row, wheels):
    """Install or upgrade to ``wheels``; Django stays what the row says."""
    django = f"Django~={row.django}.0" if row.django else "Django"
    chosen = [*map(str, wheels), django, "psycopg[binary]"]
    subprocess.run([*UV, "-q", "pip", "install", "-p", str(python), *chosen], check=True)


class WholeSite(ThirdPartySite):
    """All packages on the database at ``database_url``; sites with one ``secret`` are one site.

    ``has_jobs`` is false for release 0.1, which needs Celery.
    """

    def __init__(self, folder, python, database_url, secret="", *, has_jobs=True):
        folder.mkdir(exist_ok=True)
        super().__init__(folder, python)
        self.secret = secret or secrets.token_urlsafe(50)
        database = dict(dj_database_url.parse(database_url))
        settings = SETTINGS.format(apps=APPS, secret=self.secret, database=database)
        self.write("clinic/settings.py", settings + MAIL_TO_FILES)
        self.write("clinic/urls.py", URLS)
        if has_jobs:
            self.write("clinic/settings.py", WITHOUT_RUNNER)
        else:
            self.write("clinic/settings.py", 'CELERY_BROKER_URL = "memory://localhost/"')
            self.write("clinic/celery.py", CELERY)
            self.write("clinic/__init__.py", "from .celery import app")

    def manage(self, *arguments):
        """The output of a management command."""
        return self._run("manage.py", *arguments)

    def runs(self, code):
        """The lines that ``code`` prints in ``manage.py shell``."""
        return self.manage("shell", "--verbosity=0", "-c", code).splitlines()

    def make_administrator(self, email):
        """Create a superuser with ``createsuperuser``."""
        self.variables["DJANGO_SUPERUSER_PASSWORD"] = PASSWORD
        self.manage("createsuperuser", "--noinput", "--email", email)

    def mails(self):
        """All mail that was sent, as one text."""
        return mails_of(self)


class ApiUser:
    """An API client of a user; :meth:`sign_in` or ``token`` authenticates it."""

    def __init__(self, site, email, token=""):
        self.email, self.token = email, token
        self.http = httpx.Client(base_url=f"{site.url}/api/", timeout=PATIENCE)

    def request(self, method, path, status=200, **options):
        """The response, which must have ``status``."""
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        answer = self.http.request(method, path, headers=headers, **options)
        assert answer.status_code == status, f"{method} {path}: {answer.text}"
        return answer

    def register(self):
        """Register an account, and keep its token."""
        body = {"firstName": "Ada", "lastName": "Byron", "clinicName": "North", "role": "doctor"}
        answer = self.request(
            "POST", "auth/register/", 201, json={**body, "email": self.email, "password": PASSWORD}
        )
        self.token = answer.json()["access"]

    def sign_in(self):
        """Sign in by address and password."""
        body = {"email": self.email, "password": PASSWORD}
        self.token = self.request("POST", "auth/login/", json=body).json()["access"]

    def at(self, site):
        """The same user with the same token at another server."""
        return ApiUser(site, self.email, self.token)

    def upload(self, name):
        """Report a finished upload; return the id of its audit entry."""
        entry = {
            "action": "upload_completed",
            "resource_type": "upload",
            "resource_id": name,
            "details": {"filename": f"{name}.jpg", "diagnosis": "Normal", "processing_time": 2.5},
        }
        return int(self.request("POST", "audit-logs/", 201, json=entry).json()["id"])

    def own_pages(self):
        """The user's own data."""
        paths = ("auth/user/", "users/me/activity/", "users/me/notifications/")
        seen = {path: self.request("GET", path).json() for path in paths}
        export = self.request("GET", "users/me/export/?format=json").json()
        # An export leaves an entry, which the next one contains.
        entries = export.pop("audit_logs")
        left = [entry for entry in entries if entry["action"] != "data_exported"]
        return {**seen, "export": {**export, "audit_logs": left}}

    def administrator_pages(self):
        """The data of an administrator's endpoints."""
        paths = ("audit-logs/?page_size=100", "analytics/?days=7", "users/")
        return {path: self.request("GET", path).json() for path in paths}


def mails_of(site):
    """All mail that a site with MAIL_TO_FILES has sent, as one text."""
    return "".join(path.read_text() for path in sorted((site.folder / "mail").glob("*")))


def contains(before, after):
    """Whether ``after`` contains everything of ``before``; objects may have more keys."""
    if isinstance(before, dict) and isinstance(after, dict):
        return all(name in after and contains(before[name], after[name]) for name in before)
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(contains, before, after))
    return before == after
