"""auth from its wheel: as user model of a new site, as base of a site's own, and beside another.

On the oldest and the newest Python and Django, over real HTTP.
"""

from __future__ import annotations

import httpx
import pytest
from environments import rows
from third_party_site import PASSWORD, AdminSession, ThirdPartySite

from myometrics_testing.commands import repository
from myometrics_testing.waiting import PATIENCE
from myometrics_testing.walkthrough import blocks_in, section

pytestmark = pytest.mark.long

EMAIL, ROOT = "Ada@Clinic.example", "root@clinic.example"
CREATE_USERS = f"""
from django.contrib.auth import get_user_model
get_user_model().objects.create_superuser({ROOT!r}, {PASSWORD!r})
"""
OWN_USER = """
import uuid
from django.db import models
from myometrics_auth.models import AbstractClinicUser

class Person(AbstractClinicUser):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    licence = models.CharField(max_length=40, blank=True)
"""
OWN_ADMIN = """
from django.contrib import admin
from myometrics_auth.admin import UserAdmin
from people.models import Person

admin.site.register(Person, UserAdmin)
"""
BEARER = "myometrics_auth.authentication.SessionTokenAuthentication"
BASIC = "rest_framework.authentication.BasicAuthentication"
OWN_USER_OF_OLD = """
from django.contrib.auth.models import AbstractUser
from django.db import models

class Person(AbstractUser):
    licence = models.CharField(max_length=40, blank=True)
"""
CREATE_OLD_USERS = f"""
from people.models import Person
Person.objects.create_superuser("root", {ROOT.title()!r}, {PASSWORD!r})
Person.objects.create_user("ada", {EMAIL!r}, {PASSWORD!r}, last_name="Lind", licence="D7")
"""
LICENCES = "from people.models import Person; print(Person.objects.values_list('licence'))"
GUIDE = repository.ROOT / "docs" / "embedding" / "user-model.md"
NEWCOMER = {"email": EMAIL, "password": PASSWORD, "firstName": "Ada", "lastName": "Lind"}


@pytest.mark.parametrize("row", rows(), ids=str)
def test_new_site_with_our_user_model_works(row, environment_of, tmp_path):
    clinic = _with_auth(ThirdPartySite(tmp_path, environment_of(row, "auth")), [BEARER])
    clinic.write("clinic/settings.py", 'AUTH_USER_MODEL = "myometrics_auth.User"')
    assert clinic.prepare(CREATE_USERS)["changed"] == []
    with clinic.served():
        profile = _register_and_delete_user(clinic)
        assert isinstance(profile["id"], int)
        _administer_users(clinic, profile)
        assert AdminSession(clinic, ROOT).visit_all("myometrics_auth") >= 3


@pytest.mark.parametrize("row", rows(), ids=str)
def test_derived_user_model_has_every_endpoint(row, environment_of, tmp_path):
    clinic = _with_auth(ThirdPartySite(tmp_path, environment_of(row, "auth")), [BASIC, BEARER])
    clinic.own_user_model(OWN_USER)
    clinic.write("people/admin.py", OWN_ADMIN)
    assert clinic.prepare(CREATE_USERS)["changed"] == []
    with clinic.served():
        profile = _register_and_delete_user(clinic)
        assert isinstance(profile["id"], str)
        _administer_users(clinic, profile)
        by_password = clinic.asking(auth=(EMAIL, PASSWORD))
        assert by_password("GET", "auth/user/", 200).json() == profile
        browser = AdminSession(clinic, ROOT)
        assert browser.visit_all("myometrics_auth") >= 2
        assert browser.visit_all("people") >= 2, "the list, and the form of a new account"
        assert (
            profile["email"]
            in browser.http.get(f"/admin/people/person/{profile['id']}/change/").text
        )


@pytest.mark.parametrize("row", rows(), ids=str)
def test_users_of_own_model_move_as_documented_and_log_in(row, environment_of, tmp_path):
    clinic = ThirdPartySite(tmp_path, environment_of(row, "auth"))
    clinic.own_user_model(OWN_USER_OF_OLD)
    clinic.prepare(CREATE_OLD_USERS)
    _follow_guide(clinic)
    with clinic.served():
        anybody = clinic.asking()
        tokens = anybody("POST", "auth/login/", 200, json=_credentials(EMAIL)).json()
        assert tokens["user"]["role"] == "doctor"
        _administer_users(clinic, tokens["user"])
    assert "D7" in clinic.manage("shell", "-c", LICENCES)


def _follow_guide(clinic):
    """Follow the guide; its ``people/models.py`` replaces the existing one."""
    for block in blocks_in(section(GUIDE.read_text(), "Move existing users")):
        if block.file == "people/models.py":
            (clinic.folder / block.file).write_text(block.text)
        elif block.file:
            at = block.file if "/" in block.file else f"clinic/{block.file}"
            clinic.write(at, block.text)
        for command, output in block.commands():
            assert command.startswith("python manage.py")
            assert output in clinic.manage(*command.split()[2:])


@pytest.mark.parametrize("command", ["check", "migrate"])
def test_other_user_model_is_an_error_with_instructions(command, environment_of, tmp_path):
    row = rows()[-1]
    clinic = _with_auth(ThirdPartySite(tmp_path, environment_of(row, "auth")), [BEARER])
    said = clinic.refused(command)
    assert "myometrics_auth.E010" in said
    assert "AUTH_USER_MODEL 'auth.User' lacks email_canonical" in said
    assert "AbstractClinicUser" in said
    assert "move them" in said
    assert "work with any user model" in said


def _with_auth(clinic, accepted):
    clinic.take("auth", "myometrics_core.rate_limits")
    classes = {"DEFAULT_AUTHENTICATION_CLASSES": accepted}
    clinic.write("clinic/settings.py", f"REST_FRAMEWORK = {classes!r}")
    return clinic


def _register_and_delete_user(clinic):
    """Sign-up, sign-in, refresh, profile, sign-out; the profile."""
    anybody = clinic.asking()
    registered = anybody("POST", "auth/register/", 201, json=NEWCOMER).json()
    anybody("POST", "auth/register/", 400, json=NEWCOMER)
    anybody("POST", "auth/login/", 401, json={"email": EMAIL, "password": "not this"})
    tokens = anybody("POST", "auth/login/", 200, json=_credentials(EMAIL)).json()
    renewed = anybody("POST", "auth/token/refresh/", 200, json={"refresh": tokens["refresh"]})
    signed_in = clinic.asking(headers=_bearer(renewed.json()["access"]))
    changed = signed_in("PATCH", "auth/user/", 200, json={"clinicName": "North"}).json()
    assert changed == {**registered["user"], "clinicName": "North"}
    signed_in("POST", "auth/logout/", 200, json={"refresh": tokens["refresh"]})
    signed_in("GET", "auth/user/", 401)
    anybody("POST", "auth/token/refresh/", 401, json={"refresh": tokens["refresh"]})
    elsewhere = clinic.asking(headers=_bearer(registered["access"]))
    assert elsewhere("GET", "auth/user/", 200).json() == changed
    elsewhere("GET", "users/", 403)
    return changed


def _administer_users(clinic, profile):
    answer = httpx.post(f"{clinic.url}/api/auth/login/", json=_credentials(ROOT), timeout=PATIENCE)
    as_root = clinic.asking(headers=_bearer(answer.json()["access"]))
    listed = as_root("GET", "users/", 200, params={"search": "lind"}).json()
    assert [user["id"] for user in listed["results"]] == [profile["id"]]
    assert as_root("GET", f"users/{profile['id']}/", 200).json()["email"] == EMAIL.lower()


def _credentials(email):
    return {"email": email, "password": PASSWORD}


def _bearer(token):
    return {"Authorization": f"Bearer {token}"}
