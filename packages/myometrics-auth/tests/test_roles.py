"""Roles, the flags that depend on them, and the last administrator by the site's rule."""

from __future__ import annotations

from collections import Counter

import pytest
from conftest import PASSWORD, send
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.checks import run_checks
from django.urls import reverse
from test_admin_site import USERS, change

from myometrics_auth.models import AbstractClinicUser

pytestmark = pytest.mark.django_db


def is_superuser(user):
    return user.is_superuser


def is_in_group(user):
    return user.groups.filter(name="administrators").exists()


@pytest.fixture
def root(db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def other_root(db):
    return get_user_model().objects.create_superuser("other@clinic.example", PASSWORD)


def flags(user):
    rows = get_user_model().objects.filter(pk=user.pk)
    return rows.values_list("role", "is_staff", "is_superuser").get()


def by_put(user, role, sign_in, client, root):
    body = {"role": role}
    assert send(sign_in(root), "put", f"users/{user.pk}/", body).status_code == 200


def by_patch(user, role, sign_in, client, root):
    body = {"role": role}
    assert send(sign_in(root), "patch", f"users/{user.pk}/", body).status_code == 200


def by_admin_site(user, role, sign_in, client, root):
    client.force_login(root)
    change(client, user, role=role)


def by_save(user, role, *args):
    user = get_user_model().objects.get(pk=user.pk)
    user.role = role
    user.save()


def by_save_of_the_role(user, role, *args):
    user = get_user_model().objects.get(pk=user.pk)
    user.role = role
    user.save(update_fields=["role"])


def by_save_of_a_partly_loaded_user(user, role, *args):
    user = get_user_model().objects.only("role").get(pk=user.pk)
    user.role = role
    user.save()


def by_update(user, role, *args):
    get_user_model().objects.filter(pk=user.pk).update(role=role)


def by_bulk_update(user, role, *args):
    user = get_user_model().objects.get(pk=user.pk)
    user.role = role
    get_user_model().objects.bulk_update([user], ["role"])
    assert (user.role, user.is_staff, user.is_superuser) == flags(user)


WAYS = [
    by_put,
    by_patch,
    by_admin_site,
    by_save,
    by_save_of_the_role,
    by_save_of_a_partly_loaded_user,
    by_update,
    by_bulk_update,
]


@pytest.mark.parametrize("way", WAYS)
def test_a_role_below_administrator_clears_the_flags(way, root, other_root, sign_in, client):
    way(other_root, "technician", sign_in, client, root)
    assert flags(other_root) == ("technician", False, False)


@pytest.mark.parametrize("way", WAYS)
def test_the_role_administrator_sets_staff_only(way, root, doctor, sign_in, client):
    way(doctor, "admin", sign_in, client, root)
    assert flags(doctor) == ("admin", True, False)


@pytest.mark.parametrize("way", WAYS)
def test_a_role_that_stays_changes_no_flag(way, root, make_user, sign_in, client):
    user = make_user(is_staff=True)
    way(user, "doctor", sign_in, client, root)
    assert flags(user) == ("doctor", True, False)


def test_other_changes_leave_the_flags_of_older_rows(root, make_user, sign_in):
    user = make_user(is_staff=True)
    client = sign_in(root)
    assert send(client, "put", f"users/{user.pk}/", {"clinicName": "X"}).status_code == 200
    user.set_password(PASSWORD)
    user.save()
    assert flags(user) == ("doctor", True, False)


def test_demoted_superuser_loses_the_admin_site(root, other_root, sign_in, client):
    client.force_login(other_root)
    send(sign_in(root), "put", f"users/{other_root.pk}/", {"role": "technician"})
    assert client.get(reverse("admin:index")).status_code == 302


def test_cleared_flags_are_published(root, other_root, sign_in, published):
    client = sign_in(root)
    published.clear()
    send(client, "put", f"users/{other_root.pk}/", {"role": "doctor"})
    assert published[0].details == {
        "changed": {
            "role": {"from": "admin", "to": "doctor"},
            "is_staff": {"from": True, "to": False},
            "is_superuser": {"from": True, "to": False},
        }
    }


def test_a_save_without_the_role_takes_one_query(doctor, django_assert_num_queries):
    with django_assert_num_queries(1):
        doctor.save(update_fields=["last_login"])


class TestSuperusers:
    @pytest.mark.parametrize(
        ("method", "body"),
        [
            ("put", {"role": "technician"}),
            ("patch", {"isActive": False}),
            ("patch", {"firstName": "X"}),
            ("delete", {}),
        ],
    )
    def test_are_changed_by_superusers_only(self, root, administrator, sign_in, method, body):
        answer = send(sign_in(administrator), method, f"users/{root.pk}/", body)
        assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
        assert flags(root) == ("admin", True, True)

    def test_are_deleted_by_superusers_and_themselves(self, root, other_root, make_user, sign_in):
        make_user(role="admin")
        assert sign_in(root).delete(f"/api/users/{other_root.pk}/").status_code == 204
        assert sign_in(root).delete("/api/users/me/").status_code == 204


def staff_warnings():
    return [m for m in run_checks(databases=["default"]) if m.id == "myometrics_auth.W032"]


class TestCheck:
    def test_names_staff_below_administrator(self, root, make_user, doctor):
        assert staff_warnings() == []
        users = [make_user(is_staff=True), make_user(role="technician", is_superuser=True)]
        (warning,) = staff_warnings()
        assert f"(2): {users[0].pk}, {users[1].pk}." in warning.msg

    def test_needs_the_database(self, make_user):
        make_user(is_staff=True)
        assert not [m for m in run_checks() if m.id == "myometrics_auth.W032"]


@pytest.mark.parametrize("rule", ["is_superuser", "is_in_group"])
class TestLastAdministratorByTheSitesRule:
    @pytest.fixture
    def last(self, rule, settings, root, make_user):
        """The only administrator by the rule; others have the role."""
        settings.MYOMETRICS = {
            **settings.MYOMETRICS,
            "IS_ADMINISTRATOR": f"{__name__}.{rule}",
        }
        root.groups.add(Group.objects.create(name="administrators"))
        for _ in range(3):
            make_user(role="admin")
        return root

    @pytest.fixture
    def second(self, last, other_root):
        other_root.groups.set(last.groups.all())
        return other_root

    @pytest.mark.parametrize(
        ("method", "path", "body"),
        [
            ("patch", "users/{}/", {"isActive": False}),
            ("delete", "users/{}/", {}),
            ("delete", "users/me/", {}),
        ],
    )
    def test_stays(self, last, sign_in, method, path, body):
        answer = send(sign_in(last), method, path.format(last.pk), body)
        assert (answer.status_code, answer.json()["code"]) == (409, "last_administrator")
        last.refresh_from_db()
        assert last.is_active

    def test_can_be_demoted_if_there_is_another(self, last, second, sign_in):
        answer = send(sign_in(last), "patch", f"users/{last.pk}/", {"isActive": False})
        assert answer.status_code == 200

    def test_stays_in_the_admin_site(self, rule, last, client):
        client.force_login(last)
        sent = {"is_superuser": None} if rule == "is_superuser" else {"groups": []}
        page = change(client, last, **sent)
        assert "last active administrator" in page.content.decode()
        assert client.get(reverse("admin:index")).status_code == 200
        form = {"action": "delete_selected", "_selected_action": [last.pk], "post": "yes"}
        page = client.post(reverse(f"{USERS}_changelist"), form, follow=True)
        assert "last active administrator" in page.content.decode()
        assert flags(last) == ("admin", True, True)
        assert last.groups.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("rule", ["is_superuser", "is_in_group"])
@pytest.mark.parametrize("own", [True, False])
def test_one_of_concurrently_leaving_administrators_stays(
    rule, own, settings, sign_in, run_concurrently
):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "IS_ADMINISTRATOR": f"{__name__}.{rule}"}
    group = Group.objects.create(name="administrators")
    users: list[AbstractClinicUser] = []
    for number in range(5):
        user = get_user_model().objects.create_superuser(
            f"u{number}@x.example", PASSWORD, role="doctor"
        )
        user.groups.add(group)
        users.append(user)
    clients = [sign_in(user) for user in users]
    if own:
        calls = [lambda client=client: client.delete("/api/users/me/") for client in clients]
    else:
        following = [*users[1:], users[0]]
        calls = [
            lambda client=client, user=user: send(
                client, "patch", f"users/{user.pk}/", {"isActive": False}
            )
            for client, user in zip(clients, following, strict=True)
        ]
    answers = run_concurrently(calls)
    assert not [answer for answer in answers if isinstance(answer, Exception)], answers
    statuses = Counter(answer.status_code for answer in answers)
    left = get_user_model().objects.filter(is_active=True).count()
    assert left >= 1
    assert set(statuses) <= {200, 204, 401, 403, 409}
    if own:
        assert statuses == {204: 4, 409: 1}
