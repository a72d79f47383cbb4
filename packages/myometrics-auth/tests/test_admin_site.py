"""Accounts in Django's admin site."""

from __future__ import annotations

import re

import django
import pytest
from conftest import NEW_PASSWORD, PASSWORD
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.admin.templatetags.admin_urls import admin_urlname
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.contrib.messages.storage.fallback import FallbackStorage
from django.contrib.sessions.backends.db import SessionStore
from django.http import Http404
from django.test import Client
from django.urls import reverse
from hosts_records.models import ArchivedUser
from specified import CHANGES

from myometrics_auth.admin import UserAdmin
from myometrics_auth.models import RecoveryCode, SignInFailures, TotpDevice
from myometrics_auth.selectors import users_in
from myometrics_core.personal_data import erase_user
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

USERS = "admin:myometrics_auth_user"


@pytest.fixture
def root(db):
    return get_user_model().objects.create_superuser("root@clinic.example", PASSWORD)


@pytest.fixture
def site(client, root):
    client.force_login(root)
    return client


@pytest.fixture
def staff(make_user):
    """Makes browsers of staff who may do what the permissions say, and nothing else."""

    def staff_who_may(*permissions):
        user = make_user(is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        browser = Client()
        browser.force_login(user)
        return browser

    return staff_who_may


def change(site, user, **changes):
    """Fill in ``changes`` where the page offers the rest as it is; ``None`` unticks a box."""
    url = reverse(f"{USERS}_change", args=[user.pk])
    page = site.get(url).context["adminform"].form
    filled = {field.html_name: field.value() for field in page} | changes
    sent = {name: value for name, value in filled.items() if value not in (None, False)}
    return site.post(url, sent, follow=True)


def test_signs_in_by_address_in_any_case(client, root):
    form = {"username": "ROOT@clinic.example", "password": PASSWORD}
    assert client.post(reverse("admin:login"), form).status_code == 302


@pytest.mark.parametrize(
    "model",
    list(apps.get_app_config("myometrics_auth").get_models()),
    ids=lambda model: model.__name__,
)
def test_lists_every_model(site, doctor, sign_in, model):
    sign_in(doctor)
    TotpDevice.objects.create(user=doctor, secret="encrypted")
    RecoveryCode.objects.create(user=doctor, code_hash="0" * 64)
    SignInFailures.objects.create(key="0" * 64, failures=3, evaluated_at=utc_now())
    page = site.get(reverse(admin_urlname(model._meta, "changelist")), {"q": "d"})
    assert page.status_code == 200


def test_user_list_has_bounded_number_of_queries(site, make_user, django_assert_max_num_queries):
    for _ in range(30):
        make_user()
    with django_assert_max_num_queries(6):
        site.get(reverse(f"{USERS}_changelist"))


def test_search_finds_users_by_part_of_full_name(site, doctor, make_user):
    make_user("other@clinic.example", first_name="John")
    page = site.get(reverse(f"{USERS}_changelist"), {"q": "JANE sm"}).content.decode()
    assert "doctor<wbr>@clinic.example" in page
    assert "other<wbr>@clinic.example" not in page


def test_adds_a_user(site, published):
    form = {
        "email": "New@Clinic.example",
        "role": "technician",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    assert site.post(reverse(f"{USERS}_add"), form).status_code == 302
    user = get_user_model().objects.get(email="new@clinic.example")
    assert (user.role, user.check_password(PASSWORD)) == ("technician", True)
    assert [event.action for event in published] == ["user_created"]


def test_refuses_address_taken_in_another_spelling(site, doctor):
    form = {
        "email": "DOCTOR@Clinic.example",
        "role": "doctor",
        "usable_password": "true",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    page = site.post(reverse(f"{USERS}_add"), form)
    assert page.status_code == 200
    assert "exists already" in page.content.decode()


def test_changing_a_user_publishes_the_changes(site, root, doctor, published):
    change(site, doctor, role="technician", first_name="Janet", is_staff="on")
    doctor.refresh_from_db()
    assert (doctor.role, doctor.first_name, doctor.is_staff) == ("technician", "Janet", True)
    (event,) = published
    assert (event.action, event.actor_id) == ("user_updated", root.pk)
    assert event.resource_id == str(doctor.pk)
    assert event.details == {
        "changed": {
            "first_name": {},
            "role": {"from": "doctor", "to": "technician"},
            "is_staff": {"from": False, "to": True},
        }
    }


def test_profile_fields_can_be_changed(site, doctor, sign_in):
    columns = {re.sub("[A-Z]", r"_\g<0>", name).lower(): value for name, value in CHANGES.items()}
    change(site, doctor, **columns)
    profile = sign_in(doctor).get("/api/auth/user/").json()
    assert profile == {**profile, **CHANGES}

    change(site, doctor, **dict.fromkeys(columns, ""))
    cleared = sign_in(doctor).get("/api/auth/user/").json()
    assert cleared == {**profile, **dict.fromkeys(CHANGES, "")}


def test_deactivating_ends_sessions(site, doctor, sign_in):
    client = sign_in(doctor)
    change(site, doctor, is_active=None)
    assert client.get("/api/auth/user/").status_code == 401


@pytest.mark.parametrize("changes", [{"role": "doctor"}, {"is_active": None}])
def test_keeps_the_last_administrator(site, root, changes):
    page = change(site, root, **changes)
    assert "last active administrator" in page.content.decode()
    root.refresh_from_db()
    assert (root.role, root.is_active) == ("admin", True)


def test_erases_a_user_and_publishes_it(site, doctor, published):
    site.post(reverse(f"{USERS}_delete", args=[doctor.pk]), {"post": "yes"})
    assert not get_user_model().objects.filter(pk=doctor.pk).exists()
    assert [event.action for event in published] == ["user_deleted"]


def test_admin_log_keeps_no_name_of_an_erased_user(site, doctor):
    change(site, doctor, first_name="Janet")
    site.post(reverse(f"{USERS}_delete", args=[doctor.pk]), {"post": "yes"})
    entries = LogEntry.objects.filter(object_id=str(doctor.pk))
    assert {entry.object_repr for entry in entries} == {f"user {doctor.pk}"}


def test_admin_log_of_a_proxy_model_keeps_no_name_of_an_erased_user(rf, root, doctor):
    request = rf.post("/")
    request.user = root
    archive = admin.ModelAdmin(ArchivedUser, admin.site)
    archive.log_change(request, ArchivedUser.objects.get(pk=doctor.pk), "")
    expected = f"user {doctor.pk}"
    erase_user(doctor)
    assert LogEntry.objects.get().object_repr == expected


def test_does_not_erase_the_last_administrator(site, root):
    for path, form in (
        (reverse(f"{USERS}_delete", args=[root.pk]), {"post": "yes"}),
        (
            reverse(f"{USERS}_changelist"),
            {"action": "delete_selected", "_selected_action": [root.pk], "post": "yes"},
        ),
    ):
        page = site.post(path, form, follow=True)
        assert "last active administrator" in page.content.decode()
        assert get_user_model().objects.filter(pk=root.pk).exists()


def test_setting_a_password_ends_every_session(site, doctor, sign_in, published):
    client = sign_in(doctor)
    published.clear()
    form = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}
    site.post(reverse("admin:auth_user_password_change", args=[doctor.pk]), form)
    assert client.get("/api/auth/user/").status_code == 401
    sign_in(doctor, NEW_PASSWORD)
    assert published[0].details == {"changed": {"password": {}}}


def test_disabling_a_password_ends_every_session(site, doctor, sign_in, published):
    client = sign_in(doctor)
    published.clear()
    passwords = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD}
    form = {**passwords, "usable_password": "false", "unset-password": "Disable"}
    site.post(reverse("admin:auth_user_password_change", args=[doctor.pk]), form)
    doctor.refresh_from_db()
    # Before 5.1 the form has no option to disable it, and sets the password.
    assert doctor.has_usable_password() is (django.VERSION < (5, 1))
    assert client.get("/api/auth/user/").status_code == 401
    assert published[0].details == {"changed": {"password": {}}}


def test_unchanged_password_publishes_nothing(site, doctor, published):
    # Disabling is chosen, but the button was the one that sets a password.
    form = {"usable_password": "false", "set-password": "Change"}
    site.post(reverse("admin:auth_user_password_change", args=[doctor.pk]), form)
    doctor.refresh_from_db()
    assert (doctor.check_password(PASSWORD), published) == (True, [])


def end_sessions(site, *sessions):
    keys = [session.pk for session in sessions]
    form = {"action": "end_sessions", "_selected_action": keys}
    return site.post(reverse("admin:myometrics_auth_session_changelist"), form, follow=True)


def test_ends_sessions(site, doctor, sign_in):
    client = sign_in(doctor)
    end_sessions(site, doctor.sessions.get())
    assert client.get("/api/auth/user/").status_code == 401


def test_ending_sessions_publishes_session_and_owner(
    site, root, doctor, sign_in, published, settings
):
    settings.MYOMETRICS_AUTH = {"RECORD_SIGN_INS": False}
    sign_in(doctor)
    over = doctor.sessions.get()
    doctor.sessions.end()
    sign_in(doctor)
    live = doctor.sessions.live().get()
    page = end_sessions(site, over, live).content.decode()
    assert "1 session ended." in page
    (event,) = published
    assert (event.action, event.actor_id) == ("session_ended", root.pk)
    assert (event.resource_type, event.resource_id) == ("session", str(live.pk))
    assert event.details == {"user_id": doctor.pk}
    assert event.client_address == "127.0.0.1"


def test_ending_sessions_requires_change_permission(staff, doctor, sign_in, published):
    client = sign_in(doctor)
    published.clear()
    end_sessions(staff("view_session"), doctor.sessions.get())
    assert (client.get("/api/auth/user/").status_code, published) == (200, [])
    end_sessions(staff("view_session", "change_session"), doctor.sessions.get())
    assert (client.get("/api/auth/user/").status_code, len(published)) == (401, 1)


def remove_second_factor(site, *users):
    form = {"action": "remove_second_factor", "_selected_action": [user.pk for user in users]}
    return site.post(reverse(f"{USERS}_changelist"), form, follow=True)


def test_removes_a_lost_second_factor(site, doctor, published):
    TotpDevice.objects.create(user=doctor, secret="encrypted", confirmed_at=utc_now())
    remove_second_factor(site, doctor)
    assert not TotpDevice.objects.exists()
    assert published[0].details == {"changed": {"second_factor": {}}}


def test_second_factor_removal_is_published_only_if_there_was_one(
    site, doctor, make_user, published
):
    TotpDevice.objects.create(user=doctor, secret="encrypted", confirmed_at=utc_now())
    page = remove_second_factor(site, doctor, make_user()).content.decode()
    assert "1 second factor removed." in page
    assert [event.resource_id for event in published] == [str(doctor.pk)]


def test_removing_second_factor_requires_change_permission(staff, doctor, published):
    TotpDevice.objects.create(user=doctor, secret="encrypted", confirmed_at=utc_now())
    remove_second_factor(staff("view_user"), doctor)
    assert (TotpDevice.objects.count(), published) == (1, [])
    remove_second_factor(staff("view_user", "change_user"), doctor)
    assert (TotpDevice.objects.count(), len(published)) == (0, 1)


def test_never_shows_a_secret(site, doctor):
    TotpDevice.objects.create(user=doctor, secret="encrypted-secret")
    page = site.get(reverse("admin:myometrics_auth_totpdevice_change", args=[doctor.pk]))
    assert "encrypted-secret" not in page.content.decode()


class DeletedMeanwhile(UserAdmin):
    """An admin page whose user is deleted after the page has read the row."""

    def get_object(self, request, object_id, from_field=None):
        found = super().get_object(request, object_id, from_field)
        get_user_model().objects.filter(pk=object_id).delete()
        return found


def posted(rf, root, form):
    """A request of ``root`` to a page of the admin site."""
    request = rf.post("/", form)
    request.user, request._dont_enforce_csrf_checks = root, True
    request.session = SessionStore()
    request._messages = FallbackStorage(request)
    return request


@pytest.mark.parametrize("typed", ["Doctor@", "DOCTOR@Clinic.example", "ｄoctor@clinic"])
def test_sessions_are_found_by_any_spelling_of_the_address(site, doctor, sign_in, typed):
    sign_in(doctor)
    page = site.get(reverse("admin:myometrics_auth_session_changelist"), {"q": typed})
    assert [session.user for session in page.context["cl"].result_list] == [doctor]


@pytest.mark.parametrize("page", ["changeform_view", "delete_view"])
def test_user_deleted_concurrently_is_reported(rf, root, doctor, page):
    form = {"email": doctor.email, "role": "technician", "is_active": "on", "post": "yes"}
    request = posted(rf, root, form)
    users = DeletedMeanwhile(get_user_model(), admin.site)
    assert getattr(users, page)(request, str(doctor.pk)).status_code == 302
    assert [str(message) for message in request._messages] == ["There is no such user."]


PASSWORD_FORM = {"password1": NEW_PASSWORD, "password2": NEW_PASSWORD, "usable_password": "true"}


class DeactivatedMeanwhile(UserAdmin):
    """An admin page whose user another administrator changes after the first read of the row."""

    is_changed = False

    def get_object(self, request, object_id, from_field=None):
        found = super().get_object(request, object_id, from_field)
        if not self.is_changed:
            self.is_changed = True
            rows = get_user_model().objects.filter(pk=found.pk)
            rows.update(is_active=False, role="technician", email="other@clinic.example")
        return found


def test_setting_a_password_keeps_what_changed_concurrently(rf, root, doctor):
    users = DeactivatedMeanwhile(get_user_model(), admin.site)
    users.user_change_password(posted(rf, root, PASSWORD_FORM), str(doctor.pk))
    doctor.refresh_from_db()
    assert doctor.check_password(NEW_PASSWORD)
    assert (doctor.is_active, doctor.role) == (False, "technician")
    assert doctor.email == "other@clinic.example"


def test_setting_a_password_restores_no_user_deleted_concurrently(rf, root, doctor):
    users = DeletedMeanwhile(get_user_model(), admin.site)
    with pytest.raises(Http404):
        users.user_change_password(posted(rf, root, PASSWORD_FORM), str(doctor.pk))


def test_passwords_too_long_to_sign_in_are_refused(site, doctor):
    long = {"password1": "quiet-otter-" * 22, "password2": "quiet-otter-" * 22}
    add = {"email": "new@clinic.example", "role": "doctor", "usable_password": "true", **long}
    assert "at most 256 characters" in site.post(reverse(f"{USERS}_add"), add).content.decode()
    url = reverse("admin:auth_user_password_change", args=[doctor.pk])
    answer = site.post(url, {"usable_password": "true", **long})
    assert "at most 256 characters" in answer.content.decode()
    doctor.refresh_from_db()
    assert doctor.check_password(PASSWORD)


def test_existing_address_that_breaks_new_rules_can_stay(site, make_user):
    user = make_user("jane@straße.example")
    change(site, user, first_name="Janet")
    user.refresh_from_db()
    assert (user.first_name, user.email) == ("Janet", "jane@straße.example")
    change(site, user, email="joan@straße.example")
    user.refresh_from_db()
    assert user.email == "jane@straße.example"


def test_search_with_nul_finds_nothing(doctor):
    assert not users_in(get_user_model().objects.all(), "smi\x00th").exists()


@pytest.mark.parametrize("model", ["user", "session", "signinfailures", "totpdevice", "usedtoken"])
@pytest.mark.parametrize("query", ["q=%00", "pk=%00", "pk__in=1,%00", "address=x", "e=1&pk=%00"])
def test_invalid_filters_are_no_error(site, model, query):
    answer = site.get(f"/admin/myometrics_auth/{model}/?{query}", follow=True)
    assert answer.status_code == 200


@pytest.mark.parametrize("model", ["user", "session", "signinfailures", "totpdevice", "usedtoken"])
@pytest.mark.parametrize("key", ["%00", "9" * 30])
def test_invalid_keys_redirect_to_the_index(site, model, key):
    answer = site.get(f"/admin/myometrics_auth/{model}/{key}/change/")
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
