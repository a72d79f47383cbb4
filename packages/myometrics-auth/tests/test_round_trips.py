"""Sending back a read profile, who sets the clinic, and integrity errors of the site."""

from __future__ import annotations

import pytest
from conftest import PASSWORD, send
from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.db.models.signals import post_save
from hosts_records.models import Badge
from rest_framework.test import APIClient

pytestmark = pytest.mark.django_db

REGISTRATION = {
    "email": "new@clinic.example",
    "password": PASSWORD,
    "firstName": "Jane",
    "lastName": "Smith",
    "clinicName": "Clinic",
}


@pytest.fixture(params=["auth/user/", "users/{}/"])
def nameless(request, make_user, sign_in):
    """A client and a path of a user without names."""
    user = make_user(first_name="", last_name="", role="admin")
    return sign_in(user), request.param.format(user.pk)


@pytest.mark.parametrize("method", ["put", "patch"])
def test_a_profile_without_names_can_be_sent_back(nameless, method):
    client, path = nameless
    profile = client.get(f"/api/{path}").json()
    answer = send(client, method, path, profile)
    assert answer.status_code == 200
    assert answer.json() == profile


@pytest.mark.parametrize("method", ["put", "patch"])
@pytest.mark.parametrize("blank", ["", "  "])
def test_a_name_can_be_given_but_not_blanked(nameless, method, blank):
    client, path = nameless
    assert send(client, method, path, {"firstName": "Jane"}).json()["firstName"] == "Jane"
    answer = send(client, method, path, {"firstName": blank, "lastName": "Smith"})
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["firstName"]
    assert client.get(f"/api/{path}").json()["lastName"] == ""


@pytest.fixture
def set_by_administrators(settings):
    settings.MYOMETRICS_AUTH = {"CLINIC_NAME_SET_BY": "administrators"}


@pytest.mark.usefixtures("set_by_administrators")
class TestClinicSetByAdministrators:
    def test_is_ignored_at_registration(self, api):
        answer = send(api, "post", "auth/register/", REGISTRATION)
        assert (answer.status_code, answer.json()["user"]["clinicName"]) == (201, "")

    @pytest.mark.parametrize("value", ["Other", ""])
    def test_is_not_changed_by_its_owner(self, make_user, sign_in, value):
        client = sign_in(make_user(clinic_name="Old"))
        answer = send(client, "put", "auth/user/", {"clinicName": value, "firstName": "X"})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["clinicName"]
        assert client.get("/api/auth/user/").json()["firstName"] == "Jane"

    def test_may_be_sent_back_by_its_owner(self, make_user, sign_in):
        client = sign_in(make_user(clinic_name="Old"))
        profile = {**client.get("/api/auth/user/").json(), "firstName": "Janet"}
        answer = send(client, "put", "auth/user/", profile)
        assert (answer.status_code, answer.json()) == (200, profile)

    def test_is_changed_by_administrators(self, administrator, doctor, sign_in):
        client = sign_in(administrator)
        for path in (f"users/{doctor.pk}/", "auth/user/"):
            answer = send(client, "patch", path, {"clinicName": "New"})
            assert (answer.status_code, answer.json()["clinicName"]) == (200, "New")


@pytest.fixture
def failing_receiver():
    """A receiver of the host whose own row collides."""

    def fail(created, **kwargs):
        if created:
            Badge.objects.create(code="same")

    Badge.objects.create(code="same")
    post_save.connect(fail, sender=get_user_model())
    yield
    post_save.disconnect(fail, sender=get_user_model())


@pytest.mark.usefixtures("failing_receiver")
class TestOtherIntegrityErrors:
    def test_are_not_reported_as_a_taken_address(self):
        client = APIClient(raise_request_exception=False)
        answer = send(client, "post", "auth/register/", REGISTRATION)
        assert (answer.status_code, answer.json()["field_errors"]) == (500, {})
        assert not get_user_model().objects.exists()

    def test_reach_the_sites_error_tracker(self, api):
        with pytest.raises(IntegrityError):
            send(api, "post", "auth/register/", REGISTRATION)
