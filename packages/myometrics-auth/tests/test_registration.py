"""Registration. Specification: "POST /auth/register/"."""

from __future__ import annotations

import pytest
from conftest import PASSWORD, send
from django.contrib.auth import get_user_model
from specified import CHANGES, PROFILE_KEYS

pytestmark = pytest.mark.django_db


@pytest.fixture
def registration():
    return {"email": "New.User@Clinic.example", "password": PASSWORD, **CHANGES}


class TestRegister:
    def test_register_creates_a_doctor_and_signs_in(self, api, registration):
        answer = send(api, "post", "auth/register/", registration)
        assert answer.status_code == 201
        assert set(answer.json()) == {"access", "refresh", "user"}
        user = answer.json()["user"]
        assert set(user) == PROFILE_KEYS
        assert user == {**user, **CHANGES, "email": "new.user@clinic.example", "role": "doctor"}
        assert user["dateJoined"].endswith("Z")
        assert isinstance(user["id"], int)

    def test_role_in_the_body_is_ignored(self, api, registration):
        body = {**registration, "role": "admin", "isActive": False, "is_staff": True, "id": 1}
        answer = send(api, "post", "auth/register/", body)
        assert answer.json()["user"]["role"] == "doctor"
        assert not get_user_model().objects.get().is_staff

    def test_clinic_is_optional(self, api, registration):
        del registration["clinicName"]
        assert send(api, "post", "auth/register/", registration).json()["user"]["clinicName"] == ""

    @pytest.mark.parametrize("field", ["email", "password", "firstName", "lastName"])
    def test_missing_fields_are_400s(self, api, registration, field):
        del registration[field]
        answer = send(api, "post", "auth/register/", registration)
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]
        assert answer.json()["detail"].startswith(f"{field}: ")
        assert not get_user_model().objects.exists()

    @pytest.mark.parametrize(
        "email", ["NEW.user@clinic.example", " new.user@clinic.example", "ｎew.user@clinic.example"]
    )
    def test_taken_address_is_refused_in_every_spelling(self, api, registration, email):
        assert send(api, "post", "auth/register/", registration).status_code == 201
        answer = send(api, "post", "auth/register/", {**registration, "email": email})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["email"]
        assert get_user_model().objects.count() == 1

    @pytest.mark.parametrize(
        "email",
        [
            "new.user@clınic.example",  # dotless i
            "nеw.user@clinic.example",  # Cyrillic е
            "new.user@clinic.exаmple",  # Cyrillic а
            "no-address",
            "a@b@clinic.example",
            "",
            None,
            7,
            [],
        ],
    )
    def test_homoglyphs_and_malformed_addresses_are_refused(self, api, registration, email):
        answer = send(api, "post", "auth/register/", {**registration, "email": email})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["email"]

    def test_validator_errors_are_on_password(self, api, registration):
        answer = send(api, "post", "auth/register/", {**registration, "password": "12345"})
        assert answer.status_code == 400
        assert len(answer.json()["field_errors"]["password"]) == 2

    def test_spaces_of_a_password_are_kept(self, api, registration):
        password = f"  {PASSWORD}  "
        assert (
            send(api, "post", "auth/register/", {**registration, "password": password}).status_code
            == 201
        )
        sign_in = {"email": registration["email"], "password": PASSWORD}
        assert send(api, "post", "auth/login/", sign_in).status_code == 401
        assert (
            send(api, "post", "auth/login/", {**sign_in, "password": password}).status_code == 200
        )

    def test_ignores_a_stale_authorization_header(self, api, registration):
        api.credentials(HTTP_AUTHORIZATION="Bearer not.a.token")
        assert send(api, "post", "auth/register/", registration).status_code == 201
