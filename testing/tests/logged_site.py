"""A site that keeps its history with five other packages, and then imports it."""

from __future__ import annotations

import json

from third_party_site import ThirdPartySite

PACKAGES = (
    "django-auditlog",
    "django-easy-audit",
    "django-pghistory",
    "django-reversion",
    "django-simple-history",
    "psycopg[binary]",
)
SETTINGS = """
INSTALLED_APPS += [
    "auditlog", "easyaudit", "pgtrigger", "pghistory", "reversion", "simple_history", "wards",
    "rest_framework", "myometrics_core", "myometrics_audit", "myometrics_audit.importing",
]
MIDDLEWARE += [
    "auditlog.middleware.AuditlogMiddleware",
    "easyaudit.middleware.easyaudit.EasyAuditMiddleware",
    "pghistory.middleware.HistoryMiddleware",
    "reversion.middleware.RevisionMiddleware",
    "simple_history.middleware.HistoryRequestMiddleware",
]
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", **%r}}
DJANGO_EASY_AUDIT_WATCH_REQUEST_EVENTS = True
MYOMETRICS = {"JOB_RUNNER": "none"}
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = True
"""
MODELS = """
import pghistory
import reversion
from auditlog.registry import auditlog
from django.db import models
from simple_history.models import HistoricalRecords


@pghistory.track(pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent())
@reversion.register
class Patient(models.Model):
    name = models.CharField(max_length=100)
    api_token = models.CharField(max_length=100, default="")
    history = HistoricalRecords()

    def __str__(self):
        return self.name


auditlog.register(Patient)
"""
URLS = """
from django.http import HttpResponse
from wards.models import Patient


def change(request):
    patient = Patient.objects.get()
    patient.name += "!"
    patient.api_token += "-2"
    patient.save()
    return HttpResponse("changed")


urlpatterns += [path("change/", change)]
"""
USE = """
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.test import Client
from wards.models import Patient

users = get_user_model().objects
users.create_user("ada", password="correct-horse")
bob = users.create_user("bob", password="correct-horse")
Patient.objects.create(name="Eve", api_token="hidden-1")
for name in ("ada", "bob"):
    client = Client()
    assert client.login(username=name, password="correct-horse")
    assert client.post("/change/?token=hidden-3").status_code == 200
    client.logout()
Client().login(username="hidden-4", password="wrong")
Patient.objects.get().delete()
APPS = ("auditlog", "easyaudit", "pghistory", "reversion", "wards")
natural = {"use_natural_foreign_keys": True, "format": "jsonl"}
call_command("dumpdata", *APPS, output="natural.jsonl", **natural)
call_command("dumpdata", *APPS, "contenttypes", format="json", output="keys.json")
"""
COUNT = """
import json
from django.apps import apps
print(json.dumps({name: apps.get_model(name).objects.count() for name in %r}))
"""
ENTRIES = """
import json
from myometrics_audit.models import AuditLog
from myometrics_audit.sealing import fhir_lines
rows = AuditLog.objects.filter(origin="import").order_by("timestamp", "id")
names = ("user__username", "action", "resource_type", "resource_id", "ip_address", "details")
provenance = AuditLog.objects.filter(action="log_imported").values_list("details", flat=True)
print(json.dumps([list(rows.values(*names)), list(provenance), list(fhir_lines(observer="we"))]))
"""
TABLES = {
    "auditlog": ["auditlog.LogEntry"],
    "easyaudit": ["easyaudit.CRUDEvent", "easyaudit.LoginEvent", "easyaudit.RequestEvent"],
    "pghistory": ["wards.PatientEvent"],
    "reversion": ["reversion.Version"],
    "simple_history": ["wards.HistoricalPatient"],
}


class LoggedSite(ThirdPartySite):
    """The site in ``folder``, used once; ``database`` has the connection's settings."""

    def __init__(self, folder, python, database):
        super().__init__(folder, python)
        for name, text in {"__init__": "", "migrations/__init__": "", "models": MODELS}.items():
            self.write(f"wards/{name}.py", text)
        self.write("clinic/settings.py", SETTINGS % database)
        self.write("clinic/urls.py", URLS)
        self.manage("makemigrations", "wards")
        self.manage("migrate", "--verbosity=0")
        self.shell(USE)

    def shell(self, code):
        """The last line that ``code`` prints."""
        return self.manage("shell", "-c", code).splitlines()[-1:]

    def rows(self, package):
        """The number of rows in the tables of ``package``."""
        (line,) = self.shell(COUNT % TABLES[package])
        return sum(json.loads(line).values())

    def audit_import(self, *arguments):
        """The counts that ``audit_import`` reports."""
        return json.loads(self.manage("audit_import", "--json", *arguments).splitlines()[-1])

    def imported(self):
        """Imported entries, details of provenance entries, and the log in FHIR."""
        (line,) = self.shell(ENTRIES)
        return json.loads(line)
