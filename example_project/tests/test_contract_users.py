"""Specification, "User Management Endpoints", and decisions, "Users"."""

import pytest
from conftest import assert_error, client_of, make_user, send_json
from django.contrib.auth import get_user_model

from myometrics_audit.models import AuditLog

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("unlimited", "cheap_hashes")]

ADMIN_SHAPE = {
    "id": int,
    "email": str,
    "firstName": str,
    "lastName": str,
    "role": str,
    "clinicName": str,
    "dateJoined": str,
    "lastLogin": str,
    "isActive": bool,
}


def types_of(body):
    return {name: type(value) for name, value in body.items()}


@pytest.fixture
def client(administrator):
    return client_of(administrator)


@pytest.fixture
def doctor(db):
    user = make_user("john@clinic.example", first_name="John", last_name="Doe", clinic_name="Heart")
    user.last_login = user.date_joined
    user.save()
    return user


class TestShapes:
    def test_list_has_specified_shape(self, client, doctor):
        answer = client.get("/api/users/")
        assert answer.status_code == 200
        page = answer.json()
        assert list(page) == ["count", "next", "previous", "results"]
        assert page["count"] == 2
        [row] = [row for row in page["results"] if row["id"] == doctor.pk]
        assert types_of(row) == ADMIN_SHAPE

    def test_user_has_specified_shape(self, client, doctor):
        answer = client.get(f"/api/users/{doctor.pk}/")
        assert answer.status_code == 200
        assert types_of(answer.json()) == ADMIN_SHAPE
        assert answer.json()["firstName"] == "John"

    def test_last_login_is_null_before_first_login(self, client):
        user = make_user("never@clinic.example")
        assert client.get(f"/api/users/{user.pk}/").json()["lastLogin"] is None

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_change_returns_200_with_admin_shape(self, client, doctor, method):
        body = {
            "firstName": "Johnny",
            "lastName": "Dough",
            "role": "technician",
            "clinicName": "Updated Clinic",
            "isActive": False,
        }
        answer = send_json(client, method, f"/api/users/{doctor.pk}/", body)
        assert answer.status_code == 200
        assert types_of(answer.json()) == ADMIN_SHAPE
        assert answer.json() == {**answer.json(), **body}
        assert client.get(f"/api/users/{doctor.pk}/").json() == answer.json()

    def test_delete_returns_204_without_content(self, client, doctor):
        answer = client.delete(f"/api/users/{doctor.pk}/")
        assert answer.status_code == 204
        assert answer.content == b""
        assert_error(client.get(f"/api/users/{doctor.pk}/"), 404)
        assert_error(client.delete(f"/api/users/{doctor.pk}/"), 404)

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
    def test_missing_user_is_404(self, client, method):
        assert_error(send_json(client, method, "/api/users/987654/", {}), 404, code="not_found")

    @pytest.mark.parametrize("method", ["PUT", "PATCH"])
    def test_change_keeps_omitted_and_read_only_fields(self, client, doctor, method):
        before = client.get(f"/api/users/{doctor.pk}/").json()
        body = {"id": 5, "email": "x@clinic.example", "lastLogin": None, "is_superuser": True}
        answer = send_json(client, method, f"/api/users/{doctor.pk}/", body)
        assert answer.json() == before
        doctor.refresh_from_db()
        assert not doctor.is_superuser

    def test_rejected_change_changes_nothing(self, client, doctor):
        body = {"firstName": "Changed", "role": "king"}
        assert_error(send_json(client, "PUT", f"/api/users/{doctor.pk}/", body), 400, field="role")
        assert client.get(f"/api/users/{doctor.pk}/").json()["firstName"] == "John"


class TestSearch:
    @pytest.fixture
    def users(self, administrator):
        make_user("jane.roe@heart.example", first_name="Jane", last_name="Smith")
        make_user("j.smith@lung.example", role="technician", first_name="Jürgen", last_name="Groß")
        make_user("percent@lung.example", first_name="100%", last_name="under_score")
        make_user("quote@lung.example", first_name="O'Brien", last_name="back\\slash")
        make_user("idle@lung.example", first_name="Idle", last_name="Hand", is_active=False)

    @pytest.mark.parametrize(
        ("search", "found"),
        [
            ("jane", {"jane.roe@heart.example"}),
            ("JAN", {"jane.roe@heart.example"}),
            ("ane", {"jane.roe@heart.example"}),
            ("smith", {"jane.roe@heart.example", "j.smith@lung.example"}),
            ("Jane Smith", {"jane.roe@heart.example"}),
            ("ne smi", {"jane.roe@heart.example"}),
            ("heart.example", {"jane.roe@heart.example"}),
            ("jürgen", {"j.smith@lung.example"}),
            ("JÜRGEN", {"j.smith@lung.example"}),
            ("jürgen groß", {"j.smith@lung.example"}),
            ("%", {"percent@lung.example"}),
            ("r_s", {"percent@lung.example"}),
            ("o'b", {"quote@lung.example"}),
            ("\\", {"quote@lung.example"}),
            ("no such user", set()),
            ("'; DROP TABLE users; --", set()),
            ("🫀", set()),
        ],
    )
    def test_search_matches_parts_of_names_and_email(self, client, users, search, found):
        page = client.get("/api/users/", {"search": search}).json()
        assert {row["email"] for row in page["results"]} == found
        assert page["count"] == len(found)

    @pytest.mark.parametrize("search", ["", "   "])
    def test_blank_search_finds_all_users(self, client, users, search):
        assert client.get("/api/users/", {"search": search}).json()["count"] == 6

    @pytest.mark.parametrize(("role", "count"), [("admin", 1), ("doctor", 4), ("technician", 1)])
    def test_role_filters(self, client, users, role, count):
        page = client.get("/api/users/", {"role": role}).json()
        assert page["count"] == count
        assert {row["role"] for row in page["results"]} == {role}

    def test_role_and_search_combine(self, client, users):
        page = client.get("/api/users/", {"role": "technician", "search": "smith"}).json()
        assert [row["email"] for row in page["results"]] == ["j.smith@lung.example"]

    def test_invalid_role_is_400(self, client, users):
        assert_error(client.get("/api/users/", {"role": "king"}), 400, field="role")

    def test_last_of_repeated_parameters_counts(self, client, users):
        assert client.get("/api/users/?role=doctor&role=admin").json()["count"] == 1

    def test_unknown_parameters_are_ignored(self, client, users):
        assert client.get("/api/users/?email=x&is_superuser=1&limit=1").json()["count"] == 6

    def test_search_finds_new_name_only(self, client, doctor):
        send_json(client, "PATCH", f"/api/users/{doctor.pk}/", {"firstName": "Renamed"})
        assert client.get("/api/users/", {"search": "renamed"}).json()["count"] == 1
        send_json(client_of(doctor), "PATCH", "/api/auth/user/", {"firstName": "Again"})
        assert client.get("/api/users/", {"search": "renamed"}).json()["count"] == 0
        assert client.get("/api/users/", {"search": "again doe"}).json()["count"] == 1


def attempts(administrator):
    own = f"/api/users/{administrator.pk}/"
    return {
        "deleting": ("DELETE", own, None),
        "deleting oneself": ("DELETE", "/api/users/me/", None),
        "demoting by PUT": ("PUT", own, {"role": "doctor"}),
        "demoting by PATCH": ("PATCH", own, {"role": "technician"}),
        "deactivating by PUT": ("PUT", own, {"isActive": False}),
        "deactivating by PATCH": ("PATCH", own, {"isActive": False}),
        "both": ("PUT", own, {"role": "doctor", "isActive": False, "firstName": "Changed"}),
    }


class TestLastAdministrator:
    @pytest.mark.parametrize("how", attempts(type("NoUser", (), {"pk": 0})))
    def test_last_administrator_cannot_be_removed(self, administrator, client, how):
        make_user("idle@clinic.example", role="admin", is_active=False)
        make_user("staff@clinic.example", is_staff=True, is_superuser=True)
        before = client.get(f"/api/users/{administrator.pk}/").json()
        answer = send_json(client, *attempts(administrator)[how])
        body = assert_error(answer, 409)
        assert body["field_errors"] == {}
        assert client.get(f"/api/users/{administrator.pk}/").json() == before
        assert not AuditLog.objects.filter(action__in=("user_updated", "user_deleted")).exists()

    @pytest.mark.parametrize("how", attempts(type("NoUser", (), {"pk": 0})))
    def test_removal_is_allowed_with_another_administrator(self, administrator, client, how):
        make_user("second@clinic.example", role="admin")
        assert send_json(client, *attempts(administrator)[how]).status_code in (200, 204)

    def test_last_administrator_can_change_names(self, administrator, client):
        body = {"firstName": "New", "role": "admin", "isActive": True}
        assert send_json(client, "PUT", f"/api/users/{administrator.pk}/", body).status_code == 200

    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("how", ["deleting", "deleting oneself", "demoting by PATCH",
                                     "deactivating by PUT"])  # fmt: skip
    def test_one_administrator_remains_after_concurrent_deletions(self, run_concurrently, how):
        users = [make_user(f"admin{n}@clinic.example", role="admin") for n in range(4)]
        clients = [client_of(user) for user in users]
        calls = [
            lambda c=c, p=p: send_json(c, *attempts(p)[how])
            for c, p in zip(clients, users, strict=True)
        ]
        answers = sorted(answer.status_code for answer in run_concurrently(calls))
        assert answers == [204 if "deleting" in how else 200] * 3 + [409]
        assert get_user_model().objects.filter(role="admin", is_active=True).count() == 1

    @pytest.mark.django_db(transaction=True)
    def test_mutual_demotion_succeeds_once(self, run_concurrently):
        one, two = (make_user(f"admin{n}@clinic.example", role="admin") for n in range(2))
        pairs = [(client_of(one), two.pk), (client_of(two), one.pk)]
        calls = [
            lambda c=client, p=key: send_json(c, "PATCH", f"/api/users/{p}/", {"role": "doctor"})
            for client, key in pairs
        ]
        answers = [answer.status_code for answer in run_concurrently(calls)]
        assert answers.count(200) == 1
        assert get_user_model().objects.filter(role="admin", is_active=True).count() == 1


class TestDeletionAndReactivation:
    def test_deleting_own_account_is_204_and_ends_token(self, doctor):
        client = client_of(doctor)
        answer = client.delete("/api/users/me/")
        assert answer.status_code == 204
        assert answer.content == b""
        assert_error(client.get("/api/auth/user/"), 401)
        assert_error(client.delete("/api/users/me/"), 401)
        assert not get_user_model().objects.filter(pk=doctor.pk).exists()

    def test_reactivated_user_has_no_old_sessions(self, client, doctor):
        theirs = client_of(doctor)
        for active in (False, True):
            send_json(client, "PATCH", f"/api/users/{doctor.pk}/", {"isActive": active})
        assert_error(theirs.get("/api/auth/user/"), 401)

    def test_administrator_change_leaves_entry_without_personal_data(
        self, client, administrator, doctor
    ):
        body = {"role": "technician", "firstName": "Secretname"}
        send_json(client, "PATCH", f"/api/users/{doctor.pk}/", body)
        page = client.get("/api/audit-logs/", {"action": "user_updated"}).json()
        [entry] = page["results"]
        assert entry["user_id"] == administrator.pk
        assert (entry["resource_type"], entry["resource_id"]) == ("user", str(doctor.pk))
        assert "Secretname" not in str(entry)
        assert "technician" in str(entry["details"])
