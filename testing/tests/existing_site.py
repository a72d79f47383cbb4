"""An existing site: its settings, users, API and tests, written to a folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from third_party_site import ThirdPartySite

from myometrics_testing.walkthrough import blocks_in, section

SETTINGS = """
INSTALLED_APPS = (*INSTALLED_APPS, "rest_framework", "drf_spectacular", "people")
MIDDLEWARE = (
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.BrokenLinkEmailsMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
)
DEBUG = False
ALLOWED_HOSTS = ["*"]
AUTH_USER_MODEL = "people.Person"
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
DATABASES["default"]["ATOMIC_REQUESTS"] = True
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
LANGUAGES = [("en", "English"), ("de", "German")]
TIME_ZONE = "Europe/Berlin"
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework.authentication.SessionAuthentication",
        "rest_framework.authentication.BasicAuthentication",
    ],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.LimitOffsetPagination",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "clinic.api.in_our_shape",
    "DATETIME_FORMAT": "%d.%m.%Y",
    "PAGE_SIZE": 7,
}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {"own": {"class": "logging.FileHandler", "filename": BASE_DIR / "own.log"}},
    "root": {"handlers": ["own"], "level": "ERROR"},
}
CELERY_BROKER_URL = "amqp://unused@127.0.0.1:1/"  # nothing listens there
CELERY_TASK_ALWAYS_EAGER = True
"""
USER = """
import uuid
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.signals import pre_delete
from django.dispatch import receiver

deletions = []


class SoftDeletion(models.Model):
    deleted = models.BooleanField(default=False)

    class Meta:
        abstract = True

    def delete(self, *args, **kwargs):
        self.deleted, self.is_active = True, False
        self.save()
        return 0, {}


class Person(SoftDeletion, AbstractUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    username = None
    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = PersonManager()


class Visit(models.Model):
    person = models.ForeignKey(Person, models.CASCADE)
    at = models.DateTimeField(auto_now_add=True)


@receiver(pre_delete)
def record_deletion(sender, instance, **kwargs):
    deletions.append(sender.__name__)
"""
MANAGER = """
from django.contrib.auth.base_user import BaseUserManager


class PersonManager(BaseUserManager):
    def create_user(self, email, password=None, **fields):
        person = self.model(email=email, **fields)
        person.set_password(password)
        person.save()
        return person

    def create_superuser(self, email, password=None, **fields):
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


"""
DERIVED = USER.replace(
    "from django.contrib.auth.models import AbstractUser",
    "from myometrics_auth.models import AbstractClinicUser",
)
DERIVED = re.sub(
    r"SoftDeletion, AbstractUser\)(.*?editable=False\)\n).*?PersonManager\(\)\n",
    r"SoftDeletion, AbstractClinicUser)\1",
    DERIVED,
    flags=re.DOTALL,
)
API = """
from django.http import HttpResponse
from rest_framework import exceptions, permissions, serializers, views
from rest_framework.response import Response
from drf_spectacular.utils import extend_schema

def in_our_shape(error, context):
    return Response({"clinic_error": str(error)}, status=error.status_code)

class LoginSerializer(serializers.Serializer):
    at = serializers.DateTimeField()
    role = serializers.ChoiceField(["porter", "cook"])

class ErrorSerializer(serializers.Serializer):
    status = serializers.ChoiceField(["processing", "completed", "failed"])

class Visits(views.APIView):
    @extend_schema(request=LoginSerializer, responses={200: LoginSerializer})
    def get(self, request):
        from people.models import Visit
        visit = Visit.objects.select_related("person").earliest("at")
        return Response({"at": serializers.DateTimeField().to_representation(visit.at)})

    @extend_schema(request=LoginSerializer, responses={201: ErrorSerializer})
    def post(self, request):
        return Response({"user": str(request.user)}, status=201)

class Closed(Visits):
    permission_classes = [permissions.IsAuthenticated]

class Missing(views.APIView):
    @extend_schema(responses={404: ErrorSerializer})
    def get(self, request):
        raise exceptions.NotFound

def page(request):
    return HttpResponse("<p>" + "a page " * 100)
"""
URLS = """
from clinic import api
urlpatterns = [
    *urlpatterns,
    path("own/visits/", api.Visits.as_view()),
    path("own/closed/", api.Closed.as_view()),
    path("own/missing/", api.Missing.as_view()),
    path("own/page/", api.page),
]
"""
TESTS = """
from django.contrib.auth import get_user_model
from django.core import mail
from django.db import transaction
from django.test import TestCase, TransactionTestCase
from django.urls import reverse
from people.models import Visit, deletions

users = get_user_model().objects


class VisitTests(TestCase):
    def setUp(self):
        self.ada = users.create_user(email="ada@clinic.example", password="correct-horse")

    def test_delete_only_flags(self):
        self.ada.delete()
        self.ada.refresh_from_db()
        self.assertTrue(self.ada.deleted)

    def test_receiver_gets_every_deletion_of_ours(self):
        visit = Visit.objects.create(person=self.ada)
        deletions.clear()
        visit.delete()
        self.assertEqual(deletions, ["Visit"])

    def test_sign_in_by_force_and_by_password(self):
        self.assertEqual(self.client.get("/own/closed/").status_code, 403)
        for sign_in in (
            lambda: self.client.force_login(self.ada),
            lambda: self.client.login(username=self.ada.email, password="correct-horse"),
        ):
            sign_in()
            self.assertEqual(self.client.post("/own/closed/").json(), {"user": str(self.ada)})
            self.client.logout()

    def test_queries(self):
        Visit.objects.create(person=self.ada)
        with self.assertNumQueries(3):  # ATOMIC_REQUESTS adds two
            self.client.get("/own/visits/")

    def test_mails(self):
        with self.captureOnCommitCallbacks(execute=True):
            self.assertEqual(mail.outbox, [])


class CommitTests(TransactionTestCase):
    def test_commit(self):
        done = []
        with transaction.atomic():
            users.create_user(email="bob@clinic.example", password="correct-horse")
            transaction.on_commit(lambda: done.append(1))
        self.assertEqual(done, [1])

    def test_database_is_empty_again(self):
        self.assertEqual(users.count(), 0)
"""
HARD_DELETION = """
import json
from django.contrib.auth import get_user_model
from django.db.models import Model
from myometrics_audit import audit
from myometrics_audit.models import AuditLog
from people.models import deletions

users = get_user_model().objects
left = []
for delete in (
    lambda user: users.filter(pk=user.pk).delete(),
    lambda user: Model.delete(user),
):
    user = users.create_user(email="leaves@clinic.example", password="correct-horse")
    entry = audit.record(actor=user, action="printed", resource=("report", "17"))
    deletions.clear()
    delete(user)
    kept = AuditLog.objects.get(pk=entry.pk)
    exists = users.filter(pk=user.pk).exists()
    left.append([exists, kept.user_id, bool(kept.pseudonym), deletions[:]])
print(json.dumps(left))
"""
SEEN = Path(__file__).with_name("existing_site_snapshot.py")


class ExistingSite(ThirdPartySite):
    """The site in ``folder``, run by ``python``; ``user`` is the source of its user model."""

    def __init__(self, folder, python, user=MANAGER + USER):
        super().__init__(folder, python)
        for name, text in {"__init__": "", "migrations/__init__": "", "models": user}.items():
            self.write(f"people/{name}.py", text)
        self.write("people/tests.py", TESTS)
        self.write("clinic/settings.py", SETTINGS)
        self.write("clinic/api.py", API)
        self.write("clinic/urls.py", URLS)
        shutil.copy(SEEN, folder)

    def follow_quickstart(self, readme):
        """Add the quickstart's lines to the site's files."""
        for block in blocks_in(section(readme, "Quickstart")):
            if block.file:
                self.write(f"clinic/{block.file}", f"\n{block.text}")

    def seen(self, *ours):
        """The output of ``existing_site_snapshot.py``, and the number of passed tests.

        ``ours``: paths of our API to ask for.
        """
        seen = json.loads(self._run(SEEN.name, *ours).splitlines()[-1])
        return {**seen, "tests": self._tests()}

    def delete_users(self):
        """Delete two users' rows, though ``Person.delete()`` keeps them.

        Of each: whether the row is still there, the user of its audit entry, whether that has a
        pseudonym, and the events that the site's receiver got.
        """
        return json.loads(self.manage("shell", "-c", HARD_DELETION).splitlines()[-1])

    def _tests(self):
        """The number of the site's own tests, all of which must pass."""
        has_settings = (self.folder / "clinic" / "test_settings.py").exists()
        settings = "clinic.test_settings" if has_settings else "clinic.settings"
        done = self._done("manage.py", "test", "people", "--settings", settings)
        assert done.returncode == 0, done.stderr
        return re.search(r"^Ran \d+ tests", done.stderr, re.MULTILINE)[0]
