"""After an erasure, no table of the suite contains the user's data."""

import re

import pytest
from conftest import PASSWORD, make_user, sign_in
from django.contrib.auth import get_user_model
from django.contrib.contenttypes.models import ContentType
from django.core import mail
from django.db import connection
from django.db.models.signals import post_delete, pre_delete
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from myometrics_analytics.models import Upload
from myometrics_audit.models import AuditLog
from myometrics_auth.models import Session
from myometrics_core.jobs import run_jobs
from myometrics_notifications.models import Message, NotificationSettings

EMAIL = "Zebedee.Quux@Clinic.example"
NAMES = {"firstName": "Zebedee", "lastName": "Quuxington", "clinicName": "Quuxotic Heart"}
ADDRESS, ELSEWHERE = "203.0.113.77", "2001:db8::77"
AGENT = "Quuxbrowser/7.7"
NAMES_OF_THEIRS = ["quuxington", "quuxley", "quuxotic", "quuxbrowser"]
# Long enough not to occur in a hash or token by chance.
TRACES = [*NAMES_OF_THEIRS, "zebedee", ADDRESS, ELSEWHERE, "scan_of_quux.jpg"]


def browser(address=ADDRESS, **headers):
    return APIClient(REMOTE_ADDR=address, HTTP_USER_AGENT=AGENT, **headers)


@pytest.fixture
def user_client(db, administrator):
    """The client of a user with data in every table: logins, uploads, mails, changes."""
    body = {"email": EMAIL, "password": PASSWORD, **NAMES}
    answer = browser().post("/api/auth/register/", body, format="json").json()
    client = browser(HTTP_AUTHORIZATION=f"Bearer {answer['access']}")
    wrong = {"email": EMAIL, "password": "wrong"}
    for address in (ADDRESS, ELSEWHERE):
        assert browser(address).post("/api/auth/login/", wrong, format="json").status_code == 401
    for action in ("upload_created", "upload_completed", "analysis_ready"):
        entry = {
            "action": action,
            "resource_type": "upload",
            "resource_id": "u1",
            "details": {"filename": "scan_of_quux.jpg", "diagnosis": "Normal"},
        }
        assert client.post("/api/audit-logs/", entry, format="json").status_code == 201
    client.patch("/api/users/me/notifications/", {"system_alerts": True}, format="json")
    client.get("/api/users/me/export/")
    browser().post("/api/auth/password-reset/", {"email": EMAIL}, format="json")
    _administer(administrator, answer["user"]["id"])
    run_jobs("myometrics_notifications.deliver")
    run_jobs("myometrics_auth.send_password_reset")
    client.get("/api/auth/user/")  # leaves a log line
    return client


def _administer(administrator, user_id):
    as_administrator = sign_in(administrator)
    changed = {"firstName": "Zebedee-Maria", "clinicName": "Quuxotic", "role": "technician"}
    path = f"/api/users/{user_id}/"
    assert as_administrator.put(path, changed, format="json").status_code == 200
    staff = Client()
    staff.force_login(
        get_user_model().objects.create_superuser(email="root@clinic.example", password="x")
    )
    url = reverse("admin:myometrics_auth_user_change", args=[user_id])
    page = staff.get(url)
    form = page.context["adminform"].form
    data = {name: form[name].value() for name in form.fields if form[name].value() is not None}
    for inline in page.context["inline_admin_formsets"]:
        management = inline.formset.management_form
        data |= {
            management.add_prefix(name): management[name].value() for name in management.fields
        }
    staff.post(url, {**data, "last_name": "Quuxley"})


def dump():
    """Every table as text: column values as the database would show them."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            columns = [column[0] for column in cursor.description]
            for row in cursor.fetchall():
                for column, value in zip(columns, row, strict=True):
                    yield f"{table}.{column}", _text(value)


def _text(value):
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode("latin-1")
    return str(value)


def find_traces():
    pattern = re.compile("|".join(map(re.escape, TRACES)), re.IGNORECASE)
    return {place for place, text in dump() if pattern.search(text)}


def test_search_for_traces_finds_existing_data(user_client):
    places = find_traces()
    assert "myometrics_auth_user.email" in places
    assert "myometrics_audit_auditlog.ip_address" in places
    assert len(places) > 8
    assert len(mail.outbox) >= 2


def test_erasure_by_user_leaves_no_traces(user_client):
    assert user_client.delete("/api/users/me/").status_code == 204
    assert find_traces() == set()


def test_erasure_by_administrator_leaves_no_traces(user_client, administrator):
    user = get_user_model().objects.get(email=EMAIL.lower())
    assert sign_in(administrator).delete(f"/api/users/{user.pk}/").status_code == 204
    assert find_traces() == set()


def test_deletion_in_admin_site_leaves_no_traces(user_client):
    user = get_user_model().objects.get(email=EMAIL.lower())
    staff = Client()
    staff.force_login(get_user_model().objects.get(email="root@clinic.example"))
    url = reverse("admin:myometrics_auth_user_delete", args=[user.pk])
    assert staff.post(url, {"post": "yes"}).status_code == 302
    assert not get_user_model().objects.filter(pk=user.pk).exists()
    assert find_traces() == set()


def test_deletion_by_site_code_leaves_no_traces(user_client):
    get_user_model().objects.filter(email=EMAIL.lower()).delete()
    assert find_traces() == set()


@pytest.mark.parametrize("on_user_delete", ["cascade", "retain"])
def test_site_with_global_delete_receiver_can_delete_users(user_client, settings, on_user_delete):
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "ON_USER_DELETE": on_user_delete}
    notified = set()

    def listen(sender, **kwargs):
        notified.add(sender)

    pre_delete.connect(listen)
    post_delete.connect(listen)
    try:
        assert user_client.delete("/api/users/me/").status_code == 204
    finally:
        pre_delete.disconnect(listen)
        post_delete.disconnect(listen)
    assert {get_user_model(), Session, Upload, Message, NotificationSettings} <= notified
    assert AuditLog not in notified
    assert not get_user_model().objects.filter(email=EMAIL.lower()).exists()
    retained = AuditLog.objects.exclude(pseudonym="")
    assert retained.exists() is (on_user_delete == "retain")
    for model in (Session, Upload, Message, NotificationSettings):
        assert not model.objects.exclude(pk__in=_of_others(model)).exists()


def _of_others(model):
    owner = "recipient" if model is Message else "user"
    return model.objects.filter(**{f"{owner}__in": get_user_model().objects.all()}).values("pk")


def test_erasure_is_logged_and_keeps_entries_of_others(user_client, administrator):
    before = AuditLog.objects.filter(user=administrator).count()
    assert user_client.delete("/api/users/me/").status_code == 204
    assert AuditLog.objects.filter(user=administrator).count() == before
    assert before > 0
    assert ContentType.objects.exists()


def test_erasure_keeps_data_of_other_users(user_client):
    other = make_user("other@clinic.example", first_name="Other")
    client = sign_in(other)
    assert user_client.delete("/api/users/me/").status_code == 204
    assert client.get("/api/auth/user/").json()["firstName"] == "Other"


@pytest.mark.parametrize("typed", ["ada@müller.example", "Ada@xn--mller-kva.example"])
def test_erasure_deletes_failed_logins_in_any_spelling_of_domain(db, typed):
    user_client = make_user("ada@müller.example")
    wrong = {"email": typed, "password": "wrong"}
    assert browser().post("/api/auth/login/", wrong, format="json").status_code == 401
    failed = AuditLog.objects.filter(action="login_failed")
    assert failed.count() == 1
    assert sign_in(user_client).delete("/api/users/me/").status_code == 204
    assert failed.count() == 0
