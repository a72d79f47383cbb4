"""The caller's own profile, data and account."""

from __future__ import annotations

import json

import pytest
from asgiref.sync import async_to_sync
from conftest import PASSWORD, refresh_by, send
from django.contrib.auth import get_user_model
from django.http import StreamingHttpResponse
from django.test import AsyncClient
from specified import CHANGES, MAX_LENGTHS, PROFILE

from myometrics_auth.serializers import AdminUserSerializer, ProfileSerializer
from myometrics_core.personal_data import deliveries as export_deliveries

pytestmark = pytest.mark.django_db


class TestProfile:
    def test_shows_the_signed_in_user(self, doctor, sign_in):
        answer = sign_in(doctor).get("/api/auth/user/")
        assert answer.status_code == 200
        joined = doctor.date_joined.isoformat().replace("+00:00", "Z")
        assert answer.json() == {**PROFILE, "id": doctor.pk, "dateJoined": joined}

    @pytest.mark.parametrize("serializer", [ProfileSerializer, AdminUserSerializer])
    def test_read_converts_every_field_as_the_serializer_does(self, doctor, serializer):
        assert serializer.read(doctor) == serializer(doctor).data

    def test_profile_needs_a_token(self, api):
        answer = api.get("/api/auth/user/")
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"

    @pytest.mark.parametrize("method", ["put", "patch"])
    def test_profile_fields_can_be_changed(self, doctor, sign_in, method):
        client = sign_in(doctor)
        answer = send(client, method, "auth/user/", CHANGES)
        assert answer.status_code == 200
        assert answer.json() == {**client.get("/api/auth/user/").json(), **CHANGES}

    @pytest.mark.parametrize("method", ["put", "patch"])
    @pytest.mark.parametrize("field", CHANGES)
    def test_each_profile_field_can_be_changed_alone(self, doctor, sign_in, method, field):
        client = sign_in(doctor)
        before = client.get("/api/auth/user/").json()
        answer = send(client, method, "auth/user/", {field: CHANGES[field]})
        assert answer.json() == {**before, field: CHANGES[field]}

    @pytest.mark.parametrize("method", ["put", "patch"])
    def test_read_only_fields_are_ignored(self, doctor, sign_in, method):
        client = sign_in(doctor)
        before = client.get("/api/auth/user/").json()
        body = {
            "id": 99,
            "email": "other@clinic.example",
            "role": "admin",
            "isActive": False,
            "password": "x",
            "nonsense": [1],
            "clinicName": "New",
        }
        assert send(client, method, "auth/user/", body).json() == {**before, "clinicName": "New"}

    def test_clinic_can_be_blanked(self, make_user, sign_in):
        client = sign_in(make_user(clinic_name="Old"))
        assert send(client, "patch", "auth/user/", {"clinicName": ""}).json()["clinicName"] == ""

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            *(
                (field, value)
                for field in CHANGES
                for value in (None, 7, True, [], {}, "x\x00", "\ud800")
            ),
            *((field, "x" * (characters + 1)) for field, characters in MAX_LENGTHS.items()),
            ("firstName", ""),
            ("lastName", " "),
        ],
    )
    def test_invalid_name_is_refused_and_changes_nothing(self, doctor, sign_in, field, value):
        client = sign_in(doctor)
        before = client.get("/api/auth/user/").json()
        other = "lastName" if field == "firstName" else "firstName"
        answer = send(client, "patch", "auth/user/", {field: value, other: "Changed"})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]
        assert client.get("/api/auth/user/").json() == before

    def test_names_of_thirty_characters_of_any_script_are_accepted(self, doctor, sign_in):
        answer = send(sign_in(doctor), "patch", "auth/user/", {"firstName": "李" * 30})
        assert answer.json()["firstName"] == "李" * 30

    @pytest.mark.parametrize("body", [[], "x", 7, None])
    def test_body_that_is_no_object_is_refused(self, doctor, sign_in, body):
        assert send(sign_in(doctor), "put", "auth/user/", body).status_code == 400


class TestOwnAccount:
    def test_is_erased_with_its_sessions(self, doctor, sign_in, api):
        client, elsewhere = sign_in(doctor), sign_in(doctor)
        assert client.delete("/api/users/me/").status_code == 204
        assert not get_user_model().objects.exists()
        assert client.get("/api/auth/user/").status_code == 401
        assert elsewhere.get("/api/auth/user/").status_code == 401
        credentials = {"email": doctor.email, "password": PASSWORD}
        assert send(api, "post", "auth/login/", credentials).status_code == 401
        assert refresh_by(api, client.tokens["refresh"]).status_code == 401

    def test_last_administrator_is_not_deleted(self, administrator, sign_in):
        answer = sign_in(administrator).delete("/api/users/me/")
        assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")
        assert get_user_model().objects.exists()

    def test_needs_a_token(self, api):
        assert api.delete("/api/users/me/").status_code == 401

    @pytest.mark.parametrize("method", ["get", "put", "patch", "post"])
    def test_other_methods_are_a_405(self, doctor, sign_in, method):
        assert getattr(sign_in(doctor), method)("/api/users/me/").status_code == 405


@pytest.fixture
def letters(monkeypatch):
    """A way to deliver exports, for this test."""
    monkeypatch.setattr(export_deliveries, "_deliveries", {})
    export_deliveries.register_export_delivery("letter", lambda **export: "It will be sent.")


class TestExport:
    def content(self, answer):
        assert isinstance(answer, StreamingHttpResponse)
        return b"".join(answer.streaming_content).decode()

    def test_export_is_csv_by_default(self, doctor, sign_in):
        answer = sign_in(doctor).get("/api/users/me/export/")
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == "application/octet-stream"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="user_data.csv"'
        lines = self.content(answer).splitlines()
        assert lines[0] == "section,record,field,value"
        assert "profile,1,email,doctor@clinic.example" in lines

    def test_in_json_holds_the_profile_and_the_sessions(self, doctor, make_user, sign_in):
        sign_in(make_user())
        client = sign_in(doctor)
        answer = client.get("/api/users/me/export/?format=json")
        assert answer.headers["Content-Disposition"] == 'attachment; filename="user_data.json"'
        profile = json.loads(self.content(answer))["profile"]
        assert profile == {**profile, **client.get("/api/auth/user/").json()}
        assert profile["lastLogin"].endswith("Z")
        assert profile["isActive"] is True
        assert profile["secondFactor"] is False
        assert [session["address"] for session in profile["sessions"]] == ["127.0.0.1"]

    @pytest.mark.parametrize(
        ("query", "details"),
        [
            ("", {"format": "csv", "delivery": "response"}),
            ("?format=json", {"format": "json", "delivery": "response"}),
            ("?format=json&delivery=letter", {"format": "json", "delivery": "letter"}),
        ],
    )
    def test_is_published(self, doctor, sign_in, published, letters, query, details):
        client = sign_in(doctor)
        published.clear()
        assert client.get(f"/api/users/me/export/{query}").status_code in (200, 202)
        (event,) = published
        assert (event.action, event.actor_id) == ("data_exported", doctor.pk)
        assert (event.resource_type, event.resource_id) == ("user", str(doctor.pk))
        assert event.details == details

    def test_that_is_refused_is_not_published(self, doctor, sign_in, published):
        client = sign_in(doctor)
        published.clear()
        client.get("/api/users/me/export/?format=xml")
        assert published == []

    @pytest.mark.parametrize("name", ["=1+1", "@SUM(A1)", "+1", "-1", " =1"])
    def test_in_csv_holds_no_formula(self, make_user, sign_in, name):
        client = sign_in(make_user(clinic_name=name))
        text = self.content(client.get("/api/users/me/export/?format=csv"))
        assert f"profile,1,clinicName,'{name}" in text

    @pytest.mark.parametrize("value", ["xml", "", "CSV", "json\x00", "api"])
    def test_refuses_other_formats(self, doctor, sign_in, value):
        answer = sign_in(doctor).get("/api/users/me/export/", {"format": value})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == ["format"]

    def test_needs_a_token(self, api):
        assert api.get("/api/users/me/export/").status_code == 401

    def test_streams_under_asgi(self, doctor, sign_in):
        async def export(token):
            client = AsyncClient()
            answer = await client.get(
                "/api/users/me/export/?format=json",
                headers={"Authorization": f"Bearer {token}"},
            )
            assert answer.is_async
            return b"".join([chunk async for chunk in answer.streaming_content])

        body = async_to_sync(export)(sign_in(doctor).tokens["access"])
        assert json.loads(body)["profile"]["email"] == doctor.email
