"""User administration. Specification: "User Management Endpoints"."""

from __future__ import annotations

import pytest
from conftest import PASSWORD, send
from django.contrib.auth import get_user_model
from django.db import connection
from specified import CHANGES, ERROR_KEYS, USER_KEYS

from myometrics_auth.selectors import users_matching

pytestmark = pytest.mark.django_db


@pytest.fixture
def client(administrator, sign_in):
    """The only administrator's."""
    return sign_in(administrator)


class TestUserAdministration:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("get", "users/"),
            ("get", "users/1/"),
            ("put", "users/1/"),
            ("patch", "users/1/"),
            ("delete", "users/1/"),
        ],
    )
    def test_is_for_administrators(self, api, doctor, sign_in, method, path):
        assert send(api, method, path, {}).status_code == 401
        answer = send(sign_in(doctor), method, path, {})
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")

    @pytest.mark.parametrize(("method", "path"), [("post", "users/"), ("post", "users/1/")])
    def test_other_methods_are_a_405_for_every_role(self, client, doctor, sign_in, method, path):
        for caller in (client, sign_in(doctor)):
            assert send(caller, method, path, {}).status_code == 405


class TestUserList:
    def test_pages_through_users_in_the_admin_shape(self, client, make_user):
        for _ in range(24):
            make_user()
        body = client.get("/api/users/").json()
        assert (body["count"], body["previous"], len(body["results"])) == (25, None, 20)
        assert body["next"] == "http://testserver/api/users/?page=2"
        for user in body["results"]:
            assert set(user) == USER_KEYS
        last = client.get(body["next"]).json()
        assert len(last["results"]) == 5
        assert last["results"][0]["lastLogin"] is None
        ids = [user["id"] for user in body["results"] + last["results"]]
        assert len(set(ids)) == 25

    def test_shows_the_last_sign_in(self, client, administrator):
        (user,) = client.get("/api/users/").json()["results"]
        administrator.refresh_from_db()
        assert user["lastLogin"] == administrator.last_login.isoformat().replace("+00:00", "Z")

    @pytest.mark.parametrize(
        "term",
        [
            "Müller",
            "MÜLLER",
            "müll",
            "zoë",
            "zoë mü",
            "Zoë Müller",
            "ZM@",
            "@Heart.example",
            " zoë ",
        ],
    )
    def test_finds_parts_of_names_and_address_in_any_case(self, client, make_user, term):
        wanted = make_user("zm@heart.example", first_name="Zoë", last_name="Müller")
        make_user(first_name="Zacharias", last_name="Mahler")
        found = client.get("/api/users/", {"search": term}).json()["results"]
        assert [user["id"] for user in found] == [wanted.pk]

    @pytest.mark.parametrize("term", ["%", "_", "\\", "'", "zoë%"])
    def test_takes_the_term_literally(self, client, make_user, term):
        make_user(first_name="Zoë")
        assert client.get("/api/users/", {"search": term}).json()["count"] == 0

    def test_search_finds_changed_names(self, client, make_user):
        user = make_user(first_name="Old")
        send(client, "patch", f"users/{user.pk}/", {"firstName": "Newer"})
        assert client.get("/api/users/", {"search": "newer"}).json()["count"] == 1
        assert client.get("/api/users/", {"search": "old"}).json()["count"] == 0

    def test_filters_by_role_and_keeps_the_filter_in_links(self, client, make_user):
        for number in range(3):
            make_user(role="technician" if number else "doctor")
        body = client.get("/api/users/", {"role": "technician", "page_size": 1}).json()
        assert body["count"] == 2
        assert body["results"][0]["role"] == "technician"
        assert "role=technician" in body["next"]

    def test_blank_filters_filter_nothing(self, client, doctor):
        assert client.get("/api/users/", {"search": "", "role": ""}).json()["count"] == 2

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("role", "nurse"),
            ("role", "x\x00"),
            ("search", "x\x00"),
            ("search", "x" * 256),
            ("page", "0"),
            ("page", "x"),
            ("page_size", "-1"),
        ],
    )
    def test_invalid_parameter_is_a_400(self, client, name, value):
        answer = client.get("/api/users/", {name: value})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [name]

    def test_ends_with_its_last_page(self, client):
        assert client.get("/api/users/", {"page": 2}).status_code == 404

    def test_searches_and_filters_by_indexes(self, database_vendor):
        wanted = {
            "sqlite": ("mm_user_role_id", None),
            "postgresql": ("mm_user_role_id", "mm_user_search_trgm"),
        }
        # With statistics of its own: autovacuum may have analyzed an empty table at any time.
        users = get_user_model().objects
        users.bulk_create(users.model(email=f"user{n}@clinic.example") for n in range(2000))
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {users.model._meta.db_table}")
        for query, index in zip(
            (users_matching(role="admin"), users_matching(search="smith").order_by()),
            wanted[database_vendor],
            strict=True,
        ):
            if database_vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL enable_seqscan = off")
                    cursor.execute("SET LOCAL enable_indexscan = on")
            assert index is None or index in query.explain()

    def test_costs_three_queries(self, client, make_user, django_assert_num_queries):
        for _ in range(3):
            make_user()
        with django_assert_num_queries(3):
            client.get("/api/users/")


class TestOneUser:
    def test_is_shown_in_the_admin_shape(self, client, doctor):
        answer = client.get(f"/api/users/{doctor.pk}/")
        assert answer.status_code == 200
        assert set(answer.json()) == USER_KEYS
        assert answer.json()["isActive"] is True

    @pytest.mark.parametrize(
        "key", ["0", "999999", "x", "-1", "1.5", "9" * 40, "%00", "٣", "%ED%A0%80"]
    )
    @pytest.mark.parametrize("method", ["get", "put", "delete"])
    def test_unknown_ids_are_a_404(self, client, key, method):
        answer = send(client, method, f"users/{key}/", {})
        assert answer.status_code == 404
        assert set(answer.json()) == ERROR_KEYS

    @pytest.mark.parametrize("method", ["put", "patch"])
    def test_is_changed_in_full_or_in_part(self, client, doctor, method):
        changes = {**CHANGES, "role": "technician", "isActive": False}
        answer = send(client, method, f"users/{doctor.pk}/", {**changes, "email": "x@y.example"})
        assert answer.status_code == 200
        assert set(answer.json()) == USER_KEYS
        assert answer.json() == {**answer.json(), **changes, "email": doctor.email}
        answer = send(client, method, f"users/{doctor.pk}/", {"isActive": True})
        assert answer.json() == {**answer.json(), **changes, "isActive": True}

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("role", "nurse"),
            ("role", None),
            ("role", ""),
            ("role", 1),
            ("role", []),
            ("role", {}),
            ("isActive", None),
            ("isActive", "true"),
            ("isActive", 0),
            ("firstName", 7),
            ("lastName", "x" * 31),
            ("clinicName", "x\x00"),
        ],
    )
    def test_invalid_change_is_refused(self, client, doctor, field, value):
        before = client.get(f"/api/users/{doctor.pk}/").json()
        other = "clinicName" if field != "clinicName" else "firstName"
        answer = send(client, "put", f"users/{doctor.pk}/", {field: value, other: "Changed"})
        assert answer.status_code == 400
        assert list(answer.json()["field_errors"]) == [field]
        assert client.get(f"/api/users/{doctor.pk}/").json() == before

    def test_deactivated_user_is_signed_out(self, client, doctor, sign_in):
        theirs = sign_in(doctor)
        send(client, "put", f"users/{doctor.pk}/", {"isActive": False})
        assert theirs.get("/api/auth/user/").status_code == 401
        send(client, "put", f"users/{doctor.pk}/", {"isActive": True})
        assert theirs.get("/api/auth/user/").status_code == 401

    def test_deleted_user_is_a_404(self, client, doctor, sign_in, api):
        theirs = sign_in(doctor)
        assert client.delete(f"/api/users/{doctor.pk}/").status_code == 204
        assert theirs.get("/api/auth/user/").status_code == 401
        assert client.get(f"/api/users/{doctor.pk}/").status_code == 404
        assert client.delete(f"/api/users/{doctor.pk}/").status_code == 404
        credentials = {"email": doctor.email, "password": PASSWORD}
        assert send(api, "post", "auth/login/", credentials).status_code == 401


class TestLastAdministrator:
    @pytest.mark.parametrize(
        "change",
        [{"role": "doctor"}, {"isActive": False}, {"role": "technician", "isActive": False}],
    )
    def test_is_neither_demoted_nor_deactivated(self, client, administrator, make_user, change):
        make_user(role="admin", is_active=False)
        before = client.get(f"/api/users/{administrator.pk}/").json()
        body = {**change, "clinicName": "Changed"}
        answer = send(client, "put", f"users/{administrator.pk}/", body)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")
        assert client.get(f"/api/users/{administrator.pk}/").json() == before

    def test_is_not_deleted(self, client, administrator):
        answer = client.delete(f"/api/users/{administrator.pk}/")
        assert answer.status_code == 409
        assert set(answer.json()) == ERROR_KEYS

    def test_last_administrator_may_change_other_fields(self, client, administrator):
        body = {"clinicName": "New", "role": "admin", "isActive": True}
        assert send(client, "put", f"users/{administrator.pk}/", body).status_code == 200

    def test_can_be_demoted_once_there_is_another(self, client, administrator, make_user):
        make_user(role="admin")
        answer = send(client, "put", f"users/{administrator.pk}/", {"role": "doctor"})
        assert answer.status_code == 200
        assert client.get("/api/users/").status_code == 403
