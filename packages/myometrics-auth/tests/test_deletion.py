"""Deletion of users whom other rows protect, and of user models that keep the row."""

from __future__ import annotations

import uuid

import pytest
from conftest import NEW_PASSWORD, PASSWORD, send
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse
from hosts_records.models import ArchivedUser, Ledger, Note, Report
from rest_framework.test import APIClient
from specified import ERROR_KEYS
from test_admin_site import USERS

from myometrics_auth.models import RecoveryCode, Session, TotpDevice
from myometrics_core.personal_data import erase_user

pytestmark = pytest.mark.django_db


@pytest.fixture(params=[Report, Note, Ledger], ids=lambda model: model.__name__)
def kept(request, transactional_db, doctor):
    """A doctor whom a row of the host refers to, and keeps from being deleted.

    Databases check some of these references only when a transaction is committed.
    """
    row = request.param.objects.create(user=doctor)
    yield doctor
    row.delete()


def assert_in_use(answer):
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert set(answer.json()) == ERROR_KEYS
    assert answer.json()["detail"].startswith("Other records refer to this user")


def test_deleting_a_user_in_use_is_refused(kept, administrator, sign_in, published):
    theirs, client = sign_in(kept), sign_in(administrator)
    published.clear()
    assert_in_use(client.delete(f"/api/users/{kept.pk}/"))
    assert theirs.get("/api/auth/user/").status_code == 200


def test_deleting_oneself_while_in_use_is_refused(kept, sign_in):
    client = sign_in(kept)
    assert_in_use(client.delete("/api/users/me/"))
    assert client.get("/api/auth/user/").status_code == 200


@pytest.mark.parametrize("page", ["delete", "changelist"])
def test_deleting_a_user_in_use_in_the_admin_site_is_refused(kept, client, make_user, page):
    client.force_login(get_user_model().objects.create_superuser("root@x.example", PASSWORD))
    other = make_user()
    if page == "delete":
        form = {"post": "yes"}
        answer = client.post(reverse(f"{USERS}_delete", args=[kept.pk]), form, follow=True)
    else:
        keys = [kept.pk, other.pk]
        form = {"action": "delete_selected", "_selected_action": keys, "post": "yes"}
        answer = client.post(reverse(f"{USERS}_changelist"), form, follow=True)
    assert "Other records refer to this user" in answer.content.decode()
    assert get_user_model().objects.filter(pk__in=[kept.pk, other.pk]).count() == 2


def anonymise(user):
    get_user_model().objects.filter(pk=user.pk).update(
        first_name="", last_name="", email=f"{user.pk}@erased.example"
    )


@pytest.fixture
def archived(enrolled):
    """A user with sessions and a second factor, of a model that keeps the row."""
    return ArchivedUser.objects.get()


def test_erasing_a_user_whose_row_stays_raises(archived):
    with pytest.raises(ImproperlyConfigured, match="ERASE_USER"):
        erase_user(archived)
    archived.refresh_from_db()
    assert (archived.is_active, archived.first_name) == (True, "Jane")
    assert Session.objects.exists()
    assert TotpDevice.objects.exists()


def test_erase_user_setting_erases(archived, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "ERASE_USER": f"{__name__}.anonymise"}
    erase_user(archived)
    archived.refresh_from_db()
    assert (archived.first_name, archived.email) == ("", f"{archived.pk}@erased.example")
    for model in (Session, TotpDevice, RecoveryCode):
        assert not model.objects.exists()


def test_erase_user_setting_signs_browsers_out(
    make_user, settings, client, django_capture_on_commit_callbacks
):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "ERASE_USER": f"{__name__}.anonymise"}
    user = make_user(is_staff=True)
    client.post("/admin/login/", {"username": user.email, "password": PASSWORD})
    assert client.get("/whoami/").content == user.email.encode()
    with django_capture_on_commit_callbacks(execute=True):
        erase_user(user)
    assert client.get("/whoami/").content == b""


def test_api_uses_erase_user_setting(doctor, sign_in, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "ERASE_USER": f"{__name__}.anonymise"}
    client = sign_in(doctor)
    assert client.delete("/api/users/me/").status_code == 204
    assert client.get("/api/auth/user/").status_code == 401
    doctor.refresh_from_db()
    assert doctor.first_name == ""


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("put", "auth/user/", {"firstName": "X"}),
        ("delete", "users/me/", {}),
        ("delete", "auth/sessions/", {}),
        ("delete", f"auth/sessions/{uuid.uuid4()}/", {}),
        (
            "post",
            "auth/change-password/",
            {"old_password": PASSWORD, "new_password": NEW_PASSWORD},
        ),
        ("post", "auth/mfa/enrol/", {"password": PASSWORD}),
        ("post", "auth/mfa/enrol/", {"password": "wrong"}),
        ("post", "auth/mfa/confirm/", {"code": "000000"}),
    ],
)
@pytest.mark.parametrize("first_class", [None, "SessionAuthentication"])
def test_a_caller_deleted_concurrently_is_unauthorized(
    doctor, settings, method, path, body, first_class
):
    if first_class is not None:
        settings.REST_FRAMEWORK = {
            "DEFAULT_AUTHENTICATION_CLASSES": [f"rest_framework.authentication.{first_class}"]
        }
    client = APIClient()
    client.force_authenticate(doctor)
    get_user_model().objects.filter(pk=doctor.pk).delete()
    answer = send(client, method, path, body)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert answer.headers["WWW-Authenticate"] == "Bearer"
