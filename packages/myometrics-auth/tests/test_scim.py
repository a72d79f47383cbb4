"""Provisioning over SCIM: what an identity provider may do, and what users notice."""

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("scim2_server", reason="SCIM needs Python 3.11")

from conftest import PASSWORD, later, send
from django.contrib.auth import get_user_model
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.core.serializers import deserialize, serialize
from django.db import IntegrityError, connection
from django.db.models.signals import post_init, post_save
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from myometrics_auth.models import Session, UsedToken
from myometrics_auth.scim.models import (
    ProvisionedUser,
    ProvisioningGroup,
    ProvisioningMembership,
    ProvisioningToken,
)
from myometrics_auth.scim.personal_data import ProvisioningSection
from myometrics_auth.scim.provisioning_tokens import token_create
from myometrics_core.times import utc_now

ROLES = {"Admins": "admin", "Technicians": "technician", "Doctors": "doctor"}
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ERROR = "urn:ietf:params:scim:api:messages:2.0:Error"
EXPLAIN = {
    "postgresql": "EXPLAIN (ANALYZE, TIMING OFF)",
    "sqlite": "EXPLAIN QUERY PLAN",
}
MANY_ROWS = {
    "postgresql": re.compile(r"(actual rows=|Removed by Filter: |Removed by Join Filter: )\d{3}"),
    "sqlite": re.compile(r"SCAN \S+_user\b|provisioneduser( USING \S+ \S+ \(provider=\?\))?'"),
}
"""What plans of statements that read hundreds of users contain."""
REPLAYS = Path(__file__).parent / "scim_replay"


@pytest.fixture
def scim_settings(settings):
    settings.MYOMETRICS_AUTH = {"SCIM": {"entra": {"roles": ROLES}, "okta": {}}}


class Provider:
    """An identity provider with a token."""

    def __init__(self, slug):
        self.slug = slug
        self.token = token_create(provider=slug, lifetime=timedelta(days=30))[1]

    def send(self, method, path, body=None, content_type="application/scim+json", **headers):
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer {self.token}", **headers)
        text = body if isinstance(body, (str, bytes)) else json.dumps(body)
        data = "" if body is None else text
        url = f"/scim/v2/{self.slug}/{path}"
        return client.generic(method, url, data, content_type=content_type)

    def create(self, user_name="jane", **attributes):
        body = {"schemas": [USER], "userName": f"{user_name}@clinic.example", **attributes}
        return self.send("POST", "Users", body)

    def group(self, name, *members):
        body = {
            "schemas": [GROUP],
            "displayName": name,
            "members": [{"value": member} for member in members],
        }
        return self.send("POST", "Groups", body)

    def patch(self, path, *operations, **headers):
        return self.send("PATCH", path, patch_body(*operations), **headers)


def patch_body(*operations):
    return {"schemas": [PATCH], "Operations": list(operations)}


def replace(path, value):
    return {"op": "replace", "path": path, "value": value}


@pytest.fixture
def entra(db, scim_settings):
    return Provider("entra")


@pytest.fixture
def okta(db, scim_settings):
    return Provider("okta")


def account(resource):
    return get_user_model().objects.get(pk=resource["id"])


def is_error(answer, status, scim_type=None):
    body = answer.json()
    assert answer.status_code == status, body
    assert body["schemas"] == [ERROR]
    assert body["status"] == str(status)
    assert body.get("scimType") == scim_type, body
    return True


class TestReplay:
    @pytest.mark.parametrize("slug", ["entra", "okta"])
    def test_documented_requests_are_accepted(self, slug, db, scim_settings):
        provider, saved = Provider(slug), {}

        def filled(value):
            text = json.dumps(value)
            for name, key in saved.items():
                text = text.replace(f"{{{name}}}", key)
            return json.loads(text)

        for step in json.loads((REPLAYS / f"{slug}.json").read_text()):
            answer = provider.send(step["method"], filled(step["path"]), filled(step.get("body")))
            assert answer.status_code == step["status"], (step["name"], answer.content)
            body = answer.json() if answer.content else {}
            if "save" in step:
                saved[step["save"]] = body["id"]
            shown = {name: body.get(name) for name in step.get("holds", {})}
            assert shown == filled(step.get("holds", {})), step["name"]
            if "members" in step:
                members = [member["value"] for member in body.get("members", [])]
                assert members == filled(step["members"]), step["name"]


class TestUsers:
    def test_created_user_has_no_password_and_may_sign_in_by_reset(self, entra):
        user = account(entra.create(user_name="jane").json())
        assert not user.has_usable_password()
        assert user.self_registered is False
        assert user.role == "doctor"

    def test_password_of_the_provider_is_not_stored(self, entra):
        entra.create(password="given-by-okta-1")
        assert not account(entra.send("GET", "Users").json()["Resources"][0]).has_usable_password()
        assert "given-by-okta-1" not in json.dumps(
            list(ProvisionedUser.objects.values("attributes"))
        )

    @pytest.mark.parametrize(
        ("emails", "user_name", "address"),
        [
            ([{"value": "a@b.example", "primary": True}], "jdoe", "a@b.example"),
            ([{"value": "a@b.example"}], "jd@b.example", "jd@b.example"),
            (None, "jd@b.example", "jd@b.example"),
            ([{"value": "a@b.example"}], "jdoe", "a@b.example"),
            (
                [{"value": "x@b.example"}, {"value": "Y@b.example", "primary": True}],
                "jd@b.example",
                "y@b.example",
            ),
        ],
    )
    def test_address_is_the_primary_or_the_user_name(self, entra, emails, user_name, address):
        body = {"schemas": [USER], "userName": user_name, **({"emails": emails} if emails else {})}
        answer = entra.send("POST", "Users", body)
        assert answer.status_code == 201, answer.content
        assert account(answer.json()).email == address
        assert answer.json()["userName"] == user_name

    def test_address_follows_the_user_name_if_none_was_sent(self, entra):
        made = entra.create(user_name="jane").json()
        entra.patch(f"Users/{made['id']}", replace("userName", "jane.doe@clinic.example"))
        assert account(made).email == "jane.doe@clinic.example"

    def test_address_that_was_sent_does_not_follow_the_user_name(self, entra):
        emails = [{"value": "jane@clinic.example", "type": "work", "primary": True}]
        made = entra.create(user_name="jane", emails=emails).json()
        entra.patch(f"Users/{made['id']}", replace("userName", "jane.doe@clinic.example"))
        assert account(made).email == "jane@clinic.example"

    def test_user_without_an_address_is_refused(self, entra):
        answer = entra.send("POST", "Users", {"schemas": [USER], "userName": "jdoe"})
        assert is_error(answer, 400, "invalidValue")
        assert get_user_model().objects.count() == 0

    @pytest.mark.parametrize(
        ("name", "first", "last"),
        [
            ({"givenName": "J" * 40, "familyName": "Doe"}, "J" * 30, "Doe"),
            ({"givenName": "Jane"}, "Jane", "-"),
            ({"formatted": "Jane van Doe"}, "Jane", "van Doe"),
            ({}, "", ""),
        ],
    )
    def test_names_fit_the_account(self, entra, name, first, last):
        made = entra.create(user_name="jane", **({"name": {**name}} if name else {})).json()
        user = account(made)
        assert (user.first_name, user.last_name) == (first, last)
        assert made.get("name", {}) == name

    def test_name_that_the_user_changed_is_shown(self, entra):
        made = entra.create(name={"givenName": "Jane", "familyName": "Doe"}).json()
        get_user_model().objects.filter(pk=made["id"]).update(first_name="Janie")
        shown = entra.send("GET", f"Users/{made['id']}").json()
        assert shown["name"] == {"givenName": "Janie", "familyName": "Doe"}

    def test_taken_user_name_or_address_is_a_conflict(self, entra, okta, make_user):
        make_user("joe@clinic.example")
        entra.create(user_name="jane")
        assert is_error(entra.create(user_name="JANE"), 409, "uniqueness")
        assert is_error(entra.create(user_name="joe"), 409, "uniqueness")
        assert is_error(okta.create(user_name="jane"), 409, "uniqueness")

    def test_change_to_a_taken_address_is_a_conflict(self, entra, make_user):
        make_user("joe@clinic.example")
        made = entra.create(user_name="jane").json()
        answer = entra.patch(f"Users/{made['id']}", replace("userName", "joe@clinic.example"))
        assert is_error(answer, 409, "uniqueness")
        assert account(made).email == "jane@clinic.example"

    def test_deactivation_ends_sessions_at_once(self, entra, sign_in):
        made = entra.create(user_name="jane").json()
        user = account(made)
        user.set_password(PASSWORD)
        user.save()
        client = sign_in(user)
        assert client.get("/api/auth/user/").status_code == 200
        entra.patch(f"Users/{made['id']}", replace("active", "False"))
        assert client.get("/api/auth/user/").status_code == 401
        assert not Session.objects.filter(user=user, ended_at=None).exists()
        assert send(client, "post", "auth/login/", {"email": user.email, "password": PASSWORD})

    def test_replacement_without_active_keeps_it(self, entra):
        made = entra.create(user_name="jane", active=False).json()
        body = {"schemas": [USER], "userName": "jane@clinic.example", "displayName": "J"}
        answer = entra.send("PUT", f"Users/{made['id']}", body)
        assert answer.json()["active"] is False
        assert answer.json()["displayName"] == "J"

    def test_deleted_user_is_hidden_but_kept(self, entra, sign_in):
        made = entra.create(user_name="jane").json()
        assert entra.send("DELETE", f"Users/{made['id']}").status_code == 204
        assert is_error(entra.send("GET", f"Users/{made['id']}"), 404)
        assert is_error(entra.send("DELETE", f"Users/{made['id']}"), 404)
        assert is_error(entra.patch(f"Users/{made['id']}", replace("active", True)), 404)
        assert entra.send("GET", "Users").json()["totalResults"] == 0
        found = entra.send("GET", 'Users?filter=userName eq "jane@clinic.example"').json()
        assert found["totalResults"] == 0
        assert account(made).is_active is False

    @pytest.mark.parametrize("by", ["user name", "address"])
    def test_deleted_user_is_reactivated_by_a_new_post(self, entra, by):
        emails = [{"value": "j@clinic.example", "primary": True, "type": "work"}]
        made = entra.create(user_name="jane", emails=emails).json()
        entra.send("DELETE", f"Users/{made['id']}")
        name = "jane" if by == "user name" else "other"
        answer = entra.create(user_name=name, emails=emails, displayName="Again")
        assert answer.status_code == 201
        assert answer.json()["id"] == made["id"]
        assert answer.json()["displayName"] == "Again"
        assert account(made).is_active is True

    def test_last_administrator_stays(self, entra, make_user):
        admin = make_user("boss@clinic.example", role="admin")
        entra.send("GET", 'Users?filter=userName eq "boss@clinic.example"')
        assert is_error(entra.patch(f"Users/{admin.pk}", replace("active", False)), 409)
        assert is_error(entra.send("DELETE", f"Users/{admin.pk}"), 409)
        admin.refresh_from_db()
        assert admin.is_active
        assert entra.send("GET", f"Users/{admin.pk}").json()["active"] is True

    def test_events_name_the_provider(self, entra, published):
        made = entra.create(user_name="jane").json()
        entra.patch(f"Users/{made['id']}", replace("active", False))
        created, updated = published
        assert created.action == "user_created"
        assert updated.action == "user_updated"
        assert {created.actor_id, updated.actor_id} == {None}
        assert created.details == {"role": "doctor", "by": "scim", "provider": "entra"}
        assert updated.details["changed"]["is_active"] == {"from": True, "to": False}
        assert updated.details["by"] == "scim"

    def test_unknown_attributes_are_ignored(self, entra):
        made = entra.create(title="Dr", phoneNumbers=[{"value": "1"}], nickName="J")
        assert made.status_code == 201
        assert not {"title", "phoneNumbers", "nickName"} & made.json().keys()

    def test_erasure_and_export_include_what_was_sent(self, entra):
        made = entra.create(user_name="jane", externalId="x-1", displayName="Jane D").json()
        entra.group("Nurses", made["id"])
        section = ProvisioningSection()
        (record,) = section.export(account(made))
        assert record["userName"] == "jane@clinic.example"
        assert record["externalId"] == "x-1"
        assert record["groups"] == ["Nurses"]
        section.erase(account(made))
        assert ProvisionedUser.objects.count() == ProvisioningMembership.objects.count() == 0


class TestVisibility:
    def test_provider_sees_only_users_it_made_or_matched(self, entra, okta, make_user):
        other = make_user("joe@clinic.example")
        mine = entra.create(user_name="jane").json()
        assert entra.send("GET", "Users").json()["totalResults"] == 1
        assert okta.send("GET", "Users").json()["totalResults"] == 0
        assert is_error(okta.send("GET", f"Users/{mine['id']}"), 404)
        assert is_error(entra.send("GET", f"Users/{other.pk}"), 404)
        assert is_error(entra.send("DELETE", f"Users/{other.pk}"), 404)

    @pytest.mark.parametrize(
        "filter_",
        [
            'userName eq "Joe@clinic.example"',
            'emails eq "joe@clinic.example"',
            'emails.value eq "joe@clinic.example"',
            'emails[type eq "work"].value eq "joe@clinic.example"',
            'emails[value eq "joe@clinic.example"]',
        ],
    )
    def test_existing_account_is_matched_by_a_filter(self, entra, make_user, filter_):
        user = make_user("joe@clinic.example")
        found = entra.send("GET", f"Users?filter={filter_}").json()
        assert [row["id"] for row in found["Resources"]] == [str(user.pk)]
        assert found["Resources"][0]["name"] == {"givenName": "Jane", "familyName": "Smith"}
        assert entra.send("GET", f"Users/{user.pk}").status_code == 200
        entra.patch(f"Users/{user.pk}", replace("active", False))
        user.refresh_from_db()
        assert user.is_active is False

    @pytest.mark.parametrize(
        "filter_", ['userName sw "joe"', 'not (userName eq "joe@clinic.example")', "active eq true"]
    )
    def test_account_is_not_matched_by_other_filters(self, entra, make_user, filter_):
        make_user("joe@clinic.example")
        assert entra.send("GET", f"Users?filter={filter_}").json()["totalResults"] == 0
        assert ProvisionedUser.objects.count() == 0

    @pytest.mark.parametrize("fields", [{"role": "admin"}, {"is_staff": True}], ids=str)
    def test_address_of_a_deactivated_administrator_is_fixed(self, okta, make_user, fields):
        make_user("boss@clinic.example", role="admin")
        admin = make_user("joe@clinic.example", **fields)
        path, evil = f"Users/{admin.pk}", [{"value": "evil@clinic.example", "primary": True}]
        okta.send("GET", 'Users?filter=userName eq "joe@clinic.example"')
        assert okta.patch(path, replace("active", False)).status_code == 200
        assert okta.patch(path, replace("emails", evil)).status_code == 403
        assert okta.send("DELETE", path).status_code == 204
        assert okta.create(user_name="joe", emails=evil).status_code == 403
        admin.refresh_from_db()
        assert (admin.email, admin.is_active) == ("joe@clinic.example", False)

    def test_address_of_a_matched_administrator_is_fixed(self, entra, make_user):
        make_user("boss@clinic.example", role="admin")
        admin = make_user("joe@clinic.example", role="admin")
        entra.send("GET", 'Users?filter=userName eq "joe@clinic.example"')
        answer = entra.patch(f"Users/{admin.pk}", replace("userName", "evil@clinic.example"))
        assert is_error(answer, 403)
        admin.refresh_from_db()
        assert admin.email == "joe@clinic.example"


class TestTokens:
    def test_no_wrong_or_foreign_token_is_accepted(self, entra, okta):
        for value in ("", "Bearer ", "Bearer nonsense", f"Bearer {okta.token}", "Basic eDp5"):
            answer = APIClient(HTTP_AUTHORIZATION=value).get("/scim/v2/entra/Users")
            assert is_error(answer, 401)
            assert answer["WWW-Authenticate"].startswith("Bearer")

    def test_unknown_provider_is_unauthorized(self, entra):
        answer = APIClient(HTTP_AUTHORIZATION=f"Bearer {entra.token}").get("/scim/v2/none/Users")
        assert is_error(answer, 401)

    def test_session_token_is_not_accepted(self, entra, administrator, sign_in):
        assert sign_in(administrator).get("/scim/v2/entra/Users").status_code == 401

    def test_scim_token_is_not_accepted_by_the_api(self, entra):
        client = APIClient(HTTP_AUTHORIZATION=f"Bearer {entra.token}")
        assert client.get("/api/auth/user/").status_code == 401

    def test_expired_token_is_refused(self, entra):
        with later(days=31):
            assert entra.send("GET", "Users").status_code == 401

    def test_token_of_a_removed_provider_is_refused(self, entra, settings):
        settings.MYOMETRICS_AUTH = {"SCIM": {}}
        assert entra.send("GET", "Users").status_code == 401

    def test_only_a_hash_is_stored(self, entra):
        stored = ProvisioningToken.objects.values().get()
        assert entra.token not in str(stored)

    def test_command_creates_lists_and_revokes(self, db, scim_settings, capsys):
        call_command("scim_token", "create", "entra", "--days", "10")
        shown = capsys.readouterr()
        provider = Provider.__new__(Provider)
        provider.slug, provider.token = "entra", shown.out.strip()
        assert provider.send("GET", "Users").status_code == 200
        call_command("scim_token", "list")
        listed = capsys.readouterr().out
        assert provider.token not in listed
        key = listed.split()[0]
        call_command("scim_token", "revoke", key)
        assert provider.send("GET", "Users").status_code == 401

    def test_third_token_is_refused_until_one_is_revoked(self, db, scim_settings):
        call_command("scim_token", "create", "entra")
        call_command("scim_token", "create", "entra")
        with pytest.raises(CommandError, match="two tokens"):
            call_command("scim_token", "create", "entra")
        call_command("scim_token", "create", "okta")
        call_command(
            "scim_token", "revoke", str(ProvisioningToken.objects.filter(provider="entra")[0].pk)
        )
        call_command("scim_token", "create", "entra")

    def test_expired_tokens_make_room(self, db, scim_settings):
        call_command("scim_token", "create", "entra", "--days", "1")
        call_command("scim_token", "create", "entra", "--days", "1")
        with later(days=2):
            call_command("scim_token", "create", "entra")

    @pytest.mark.parametrize(
        "arguments",
        [("create", "none"), ("create", "entra", "--days", "0"), ("revoke", "x")],
    )
    def test_wrong_arguments_are_reported(self, db, scim_settings, arguments):
        with pytest.raises(CommandError):
            call_command("scim_token", *arguments)


@pytest.mark.django_db
class TestSetup:
    def test_providers_without_urls_are_reported(self, scim_settings, settings):
        settings.ROOT_URLCONF = "myometrics_auth.urls"
        assert "myometrics_auth.W060" in {message.id for message in run_checks()}

    def test_admin_site_shows_rows_without_hashes(self, entra, client, make_user):
        made = entra.create(user_name="jane").json()
        group = entra.group("Nurses", made["id"]).json()
        client.force_login(
            make_user("root@clinic.example", role="admin", is_staff=True, is_superuser=True)
        )
        token = ProvisioningToken.objects.get()
        row = ProvisionedUser.objects.get()
        for model, key in (
            ("provisioningtoken", token.pk),
            ("provisioneduser", row.pk),
            ("provisioninggroup", group["id"]),
        ):
            assert client.get(f"/admin/myometrics_scim/{model}/?q=x").status_code == 200
            page = client.get(f"/admin/myometrics_scim/{model}/{key}/change/")
            assert page.status_code == 200
            assert token.token_hash not in page.content.decode()


class TestGroups:
    def test_group_gives_and_takes_its_role(self, entra, administrator):
        made = entra.create(user_name="jane").json()
        group = entra.group("Admins", made["id"]).json()
        assert account(made).role == "admin"
        assert entra.send("GET", f"Users/{made['id']}").json()["groups"][0]["display"] == "Admins"
        entra.patch(
            f"Groups/{group['id']}",
            {"op": "remove", "path": f'members[value eq "{made["id"]}"]'},
        )
        user = account(made)
        assert user.role == "doctor"
        assert not user.is_staff

    def test_role_is_not_given_to_the_user_who_registered_the_address(
        self, entra, administrator, make_user, sign_in
    ):
        thief = make_user("joe@clinic.example", self_registered=True)
        client = sign_in(thief)
        entra.send("GET", 'Users?filter=userName eq "joe@clinic.example"')
        assert client.get("/api/auth/user/").status_code == 200
        assert entra.group("Admins", str(thief.pk)).status_code == 201
        thief.refresh_from_db()
        assert thief.role == "admin"
        assert client.get("/api/auth/user/").status_code == 401
        body = {"email": thief.email, "password": PASSWORD}
        assert send(APIClient(), "post", "auth/login/", body).status_code == 401

    def test_verified_user_keeps_the_password(self, entra, administrator, make_user, sign_in):
        user = make_user("joe@clinic.example", self_registered=True, verified_at=utc_now())
        entra.send("GET", 'Users?filter=userName eq "joe@clinic.example"')
        entra.group("Admins", str(user.pk))
        assert sign_in(user).get("/api/auth/user/").json()["role"] == "admin"

    def test_highest_role_of_several_groups_counts(self, entra, administrator):
        made = entra.create(user_name="jane").json()
        entra.group("Technicians", made["id"])
        assert account(made).role == "technician"
        admins = entra.group("Admins", made["id"]).json()
        assert account(made).role == "admin"
        entra.send("DELETE", f"Groups/{admins['id']}")
        assert account(made).role == "technician"

    def test_renamed_group_changes_roles(self, entra):
        made = entra.create(user_name="jane").json()
        group = entra.group("Nurses", made["id"]).json()
        assert account(made).role == "doctor"
        entra.patch(f"Groups/{group['id']}", replace("displayName", "Technicians"))
        assert account(made).role == "technician"
        entra.patch(f"Groups/{group['id']}", replace("displayName", "Nurses"))
        assert account(made).role == "doctor"

    def test_group_gives_a_role_by_its_external_id(self, entra, settings):
        settings.MYOMETRICS_AUTH = {"SCIM": {"entra": {"roles": {"id-7": "technician"}}}}
        made = entra.create(user_name="jane").json()
        body = {
            "schemas": [GROUP],
            "displayName": "Any",
            "externalId": "id-7",
            "members": [{"value": made["id"]}],
        }
        entra.send("POST", "Groups", body)
        assert account(made).role == "technician"

    def test_deleted_user_loses_groups_and_role(self, entra, administrator):
        made = entra.create(user_name="jane").json()
        group = entra.group("Admins", made["id"]).json()
        before = entra.send("GET", f"Groups/{group['id']}")["ETag"]
        entra.send("DELETE", f"Users/{made['id']}")
        assert "members" not in entra.send("GET", f"Groups/{group['id']}").json()
        assert entra.send("GET", f"Groups/{group['id']}")["ETag"] != before
        assert entra.create(user_name="jane").json()["id"] == made["id"]
        assert account(made).role == "doctor"

    def test_last_administrator_is_not_demoted(self, entra):
        made = entra.create(user_name="jane").json()
        group = entra.group("Admins", made["id"]).json()
        for answer in (
            entra.send("DELETE", f"Groups/{group['id']}"),
            entra.patch(f"Groups/{group['id']}", replace("members", [])),
            entra.patch(f"Groups/{group['id']}", replace("displayName", "Nurses")),
        ):
            assert is_error(answer, 409)
        assert account(made).role == "admin"
        shown = entra.send("GET", f"Groups/{group['id']}").json()
        assert shown["displayName"] == "Admins"
        assert len(shown["members"]) == 1

    def test_group_of_another_provider_is_unknown(self, entra, okta):
        group = entra.group("Nurses").json()
        assert is_error(okta.send("GET", f"Groups/{group['id']}"), 404)
        assert okta.send("GET", "Groups").json()["totalResults"] == 0

    def test_users_of_another_provider_do_not_join(self, entra, okta):
        theirs = okta.create(user_name="jane").json()
        group = entra.group("Admins", theirs["id"], "999999", "nobody")
        assert group.status_code == 201
        assert "members" not in group.json()
        assert account(theirs).role == "doctor"

    def test_taken_group_name_is_a_conflict(self, entra, okta):
        entra.group("Nurses")
        other = entra.group("Others").json()
        assert is_error(entra.group("nurses"), 409, "uniqueness")
        renamed = entra.patch(f"Groups/{other['id']}", replace("displayName", "NURSES"))
        assert is_error(renamed, 409, "uniqueness")
        assert okta.group("Nurses").status_code == 201

    def test_roles_are_those_of_the_settings_only(self, okta):
        made = okta.create(user_name="jane").json()
        okta.group("Admins", made["id"])
        assert account(made).role == "doctor"


class TestProtocol:
    def test_answers_are_private_scim_json(self, entra):
        for path in ("Users", "Groups", "ServiceProviderConfig", "Schemas", "ResourceTypes", "x"):
            answer = entra.send("GET", path)
            assert answer["Cache-Control"] == "private, no-store"
            assert answer["Content-Type"].startswith("application/scim+json")

    def test_config_declares_what_is_supported(self, entra):
        config = entra.send("GET", "ServiceProviderConfig").json()
        supported = {
            name
            for name, value in config.items()
            if isinstance(value, dict) and value.get("supported")
        }
        assert supported == {"patch", "filter", "etag"}

    def test_json_media_type_is_accepted_too(self, entra):
        body = {"schemas": [USER], "userName": "jane@clinic.example"}
        answer = entra.send("POST", "Users", body, content_type="application/json")
        assert answer.status_code == 201

    def test_etags_guard_writes_and_save_reads(self, entra):
        made = entra.create(user_name="jane")
        path, tag = f"Users/{made.json()['id']}", made["ETag"]
        assert entra.send("GET", path, HTTP_IF_NONE_MATCH=tag).status_code == 304
        changed = entra.patch(path, replace("displayName", "J"), HTTP_IF_MATCH=tag)
        assert changed.status_code == 200
        assert changed["ETag"] != tag
        assert is_error(entra.patch(path, replace("displayName", "K"), HTTP_IF_MATCH=tag), 412)
        assert is_error(entra.send("DELETE", path, HTTP_IF_MATCH=tag), 412)
        assert entra.send("GET", path).json()["displayName"] == "J"

    def test_etag_changes_when_the_account_does(self, entra):
        made = entra.create(user_name="jane")
        get_user_model().objects.filter(pk=made.json()["id"]).update(is_active=False)
        assert entra.send("GET", f"Users/{made.json()['id']}")["ETag"] != made["ETag"]

    def test_group_etags_change_with_the_members(self, entra):
        made = entra.create(user_name="jane").json()
        group = entra.group("Nurses")
        path = f"Groups/{group.json()['id']}"
        add = {"op": "add", "path": "members", "value": [{"value": made["id"]}]}
        assert entra.patch(path, add, HTTP_IF_MATCH=group["ETag"]).status_code == 200
        assert is_error(entra.patch(path, add, HTTP_IF_MATCH=group["ETag"]), 412)

    def test_reads_keep_no_cursor_open(self, entra, monkeypatch):
        member = entra.create().json()["id"]
        group = entra.group("Nurses", member).json()["id"]
        monkeypatch.setattr(connection, "chunked_cursor", None)
        for path in ("Users", f"Users/{member}", "Groups", f"Groups/{group}"):
            assert entra.send("GET", path).status_code == 200

    def test_any_text_survives_dumps_in_xml(self, entra):
        made = entra.create(externalId="a\x0b").json()
        entra.group("Nurses\x1b", made["id"])
        rows = [*ProvisionedUser.objects.all(), *ProvisioningGroup.objects.all()]
        loaded = deserialize("xml", serialize("xml", rows))
        for row in loaded:
            row.save()
        assert ProvisionedUser.objects.get().external_id == "a\x0b"
        assert ProvisioningGroup.objects.get().display_name == "Nurses\x1b"

    def test_attributes_select_what_is_returned(self, entra):
        made = entra.create(user_name="jane", displayName="J").json()
        path = f"Users/{made['id']}"
        chosen = entra.send("GET", f"{path}?attributes=userName").json()
        assert set(chosen) == {"schemas", "id", "userName"}
        without = entra.send("GET", f"{path}?excludedAttributes=displayName,meta").json()
        assert not {"displayName", "meta"} & set(without)
        both = entra.send("GET", f"{path}?attributes=userName&excludedAttributes=meta")
        assert both.status_code == 400

    def test_pages_cover_every_user_once(self, entra):
        made = {entra.create(user_name=f"user{number}").json()["id"] for number in range(7)}
        seen, start = [], 1
        while (
            page := entra.send("GET", f"Users?startIndex={start}&count=3").json().get("Resources")
        ):
            seen += [row["id"] for row in page]
            start += len(page)
        assert len(seen) == 7
        assert set(seen) == made

    @pytest.mark.parametrize(
        ("query", "shown"),
        [
            ("count=0", 0),
            ("count=-5", 0),
            ("startIndex=-3", 2),
            ("startIndex=3", 0),
            ("startIndex=99999999999999999999999", 0),
            ("count=99999999999999999999999", 2),
        ],
    )
    def test_odd_pages_are_answered(self, entra, query, shown):
        entra.create(user_name="jane")
        entra.create(user_name="joe")
        answer = entra.send("GET", f"Users?{query}")
        assert answer.status_code == 200, answer.content
        assert len(answer.json().get("Resources", [])) == shown
        assert answer.json()["totalResults"] == 2

    @pytest.mark.parametrize(
        ("filter_", "names"),
        [
            ('userName eq "JANE@clinic.example"', ["jane"]),
            ('USERNAME EQ "jane@clinic.example"', ["jane"]),
            (
                'urn:ietf:params:scim:schemas:core:2.0:User:userName eq "jane@clinic.example"',
                ["jane"],
            ),
            ('userName ne "jane@clinic.example"', ["joe"]),
            ('userName sw "j"', ["jane", "joe"]),
            ('userName co "oe@"', ["joe"]),
            ('userName ew ".example" and active eq false', ["joe"]),
            ('externalId eq "X-1"', ["jane"]),
            ('externalId eq "x-1"', []),
            ("externalId pr", ["jane"]),
            ("userName pr", ["jane", "joe"]),
            ("not (userName pr)", []),
            ('userName pr or externalId eq "X-1"', ["jane", "joe"]),
            ('not (emails[type eq "work"])', []),
            ("active eq true", ["jane"]),
            ('active eq "True"', ["jane"]),
            (
                'emails eq "jane@clinic.example" or emails.value eq "joe@clinic.example"',
                ["jane", "joe"],
            ),
            ("not (active eq true)", ["joe"]),
            ('id eq "nobody"', []),
            ('id eq "0"', []),
            ('userName eq "100%"', []),
            ('userName co "_"', []),
            ('meta.lastModified gt "2020-01-01T00:00:00Z"', ["jane", "joe"]),
            ('meta.created lt "2020-01-01T00:00:00Z"', []),
        ],
    )
    def test_filters_select_users(self, entra, filter_, names):
        entra.create(user_name="jane", externalId="X-1")
        entra.create(user_name="joe", active=False)
        answer = entra.send("GET", f"Users?filter={filter_}".replace("%", "%25"))
        assert answer.status_code == 200, answer.content
        found = [row["userName"].partition("@")[0] for row in answer.json().get("Resources", [])]
        assert found == names

    def test_remove_with_a_text_removes_the_value(self, entra):
        made = entra.create(user_name="jane", displayName="J", externalId="X-1").json()
        manager = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager"
        answer = entra.patch(
            f"Users/{made['id']}",
            {"op": "Remove", "path": "displayName", "value": "J"},
            {"op": "Remove", "path": "externalId", "value": "another"},
            {"op": "Remove", "path": manager, "value": ""},
        )
        assert answer.status_code == 200, answer.content
        assert not {"displayName", "externalId"} & set(answer.json())

    def test_remove_with_a_text_never_removes_every_member(self, entra):
        made = entra.create(user_name="jane").json()
        path = f"Groups/{entra.group('Nurses', made['id']).json()['id']}"
        for members in ("members", 'members[type eq "User"]'):
            answer = entra.patch(path, {"op": "remove", "path": members, "value": "other"})
            assert answer.status_code == 400, answer.content
        assert len(entra.send("GET", path).json()["members"]) == 1

    def test_time_without_offset_in_a_filter_is_in_utc(self, entra, settings):
        settings.TIME_ZONE = "Pacific/Auckland"
        entra.create()
        moment = (utc_now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S")
        found = entra.send("GET", f'Users?filter=meta.created lt "{moment}"').json()
        assert found["totalResults"] == 1

    def test_filter_by_id_selects_one_user(self, entra):
        entra.create(user_name="joe")
        made = entra.create(user_name="jane").json()
        found = entra.send("GET", f'Users?filter=id eq "{made["id"]}"').json()
        assert [row["id"] for row in found["Resources"]] == [made["id"]]

    @pytest.mark.parametrize(
        ("filter_", "found"),
        [
            ('id eq "{id}" and manager eq "x"', 0),
            ('URN:ietf:params:scim:schemas:extension:enterprise:2.0:User:manager EQ "x"', 0),
            ('manager.value eq "\\"" or id eq "{id}"', 1),
            ('not (manager eq "x")', 1),
            ('externalId eq "manager eq \\"x\\""', 1),
            ('externalId eq "my manager eq " or externalId eq "manager eq \\"x\\""', 1),
        ],
    )
    def test_no_user_has_a_manager(self, entra, filter_, found):
        made = entra.create(externalId='manager eq "x"').json()
        page = entra.send("GET", f"Users?filter={filter_.replace('{id}', made['id'])}").json()
        assert page.get("totalResults") == found, page

    @pytest.mark.parametrize(
        "filter_",
        [
            "userName",
            "userName eq",
            'userName eq "x" and',
            "userName eq x",
            'userName zz "x"',
            'noSuch eq "x"',
            "active gt true",
            'password eq "x"',
            'userName eq "\\u0000"',
            "(" * 3000 + 'userName eq "x"' + ")" * 3000,
            "(" * 3000,
            " and ".join(['userName eq "x"'] * 5000),
            "not (" * 500 + "active eq true" + ")" * 500,
            'meta.created gt "yesterday"',
            'meta.created lt "9999-12-31T23:59:59-14:00"',
            "'; drop table users; --",
        ],
        ids=lambda text: text[:20],
    )
    def test_bad_filters_are_refused(self, entra, filter_):
        answer = entra.send("GET", f"Users?filter={filter_}")
        assert answer.status_code == 400, answer.content
        assert answer.json()["schemas"] == [ERROR]


BAD_BODIES = {
    "no body": "",
    "no JSON": "{",
    "no object": "[]",
    "text": '"x"',
    "null": "null",
    "number": "5",
    "no user name": {"schemas": [USER]},
    "blank user name": {"schemas": [USER], "userName": " "},
    "user name of a wrong type": {"schemas": [USER], "userName": {"a": 1}},
    "long user name": {"schemas": [USER], "userName": "a" * 300 + "@b.example"},
    "expanding user name": {
        "schemas": [USER],
        "userName": "\ufdfa" * 200,
        "emails": [{"value": "a@b.example", "primary": True}],
    },
    "NUL": {"schemas": [USER], "userName": "a\x00@b.example"},
    "NUL in a name": {"schemas": [USER], "userName": "a@b.example", "displayName": "\x00"},
    "NUL in a key": {"schemas": [USER], "userName": "a@b.example", "x\x00": 1},
    "surrogate": f'{{"schemas": ["{USER}"], "userName": "a@b.example", "displayName": "\\ud800"}}',
    "wrong address": {
        "schemas": [USER],
        "userName": "a",
        "emails": [{"value": "b", "primary": True}],
    },
    "homoglyph": {"schemas": [USER], "userName": "\u0430dmin@b.example"},
    "two primary": {
        "schemas": [USER],
        "userName": "a",
        "emails": [{"value": f"{n}@b.example", "primary": True} for n in "xy"],
    },
    "emails of a wrong type": {
        "schemas": [USER],
        "userName": "a@b.example",
        "emails": "a@b.example",
    },
    "many emails": {
        "schemas": [USER],
        "userName": "a@b.example",
        "emails": [{"value": f"{n}@b.example"} for n in range(50)],
    },
    "active of a wrong type": {"schemas": [USER], "userName": "a@b.example", "active": "perhaps"},
    "deep": f'{{"schemas": ["{USER}"], "x": {"[" * 900 + "]" * 900}}}',
    "deeper": "[" * 100_000,
    "NaN": f'{{"schemas": ["{USER}"], "userName": NaN}}',
    "not UTF-8": b'{"userName": "\xff"}',
    "long display name": {"schemas": [USER], "userName": "a@b.example", "displayName": "x" * 300},
    "long external id": {"schemas": [USER], "userName": "a@b.example", "externalId": "x" * 300},
    "long given name": {
        "schemas": [USER],
        "userName": "a@b.example",
        "name": {"givenName": "x" * 300},
    },
}
BAD_PATCHES = {
    "no operations": {"schemas": [PATCH]},
    "empty operations": patch_body(),
    "unknown operation": patch_body({"op": "move", "path": "active", "value": True}),
    "no operation": patch_body({"path": "active"}),
    "operations of a wrong type": {"schemas": [PATCH], "Operations": "x"},
    "operation of a wrong type": {"schemas": [PATCH], "Operations": [5]},
    "remove without a path": patch_body({"op": "remove"}),
    "remove of a required attribute": patch_body({"op": "remove", "path": "userName"}),
    "bad path": patch_body(replace("emails[", "x")),
    "read-only attribute": patch_body(replace("id", "7")),
    "read-only groups": patch_body(replace("groups", [{"value": "x"}])),
    "wrong type": patch_body(replace("active", [1, 2])),
    "NUL": patch_body(replace("displayName", "\x00")),
    "blank user name": patch_body(replace("userName", "")),
    "wrong address": patch_body(replace("emails", [{"value": "x", "primary": True}])),
    "many operations": patch_body(*[replace("active", True)] * 1001),
    "good and bad": patch_body(replace("displayName", "Changed"), replace("active", "perhaps")),
    "members of a user with odd entries": patch_body(
        {"op": "remove", "path": "members", "value": [5, None, {}]}, replace("active", "perhaps")
    ),
}


class TestBadInput:
    @pytest.mark.parametrize("case", BAD_BODIES)
    def test_bad_users_are_refused_and_nothing_is_created(self, entra, case):
        answer = entra.send("POST", "Users", BAD_BODIES[case])
        assert answer.status_code == 400, answer.content
        assert answer.json()["schemas"] == [ERROR]
        assert get_user_model().objects.count() == ProvisionedUser.objects.count() == 0

    @pytest.mark.parametrize("case", BAD_PATCHES)
    def test_bad_patches_are_refused_and_change_nothing(self, entra, case):
        made = entra.create(user_name="jane", displayName="Before")
        path = f"Users/{made.json()['id']}"
        answer = entra.send("PATCH", path, BAD_PATCHES[case])
        assert answer.status_code == 400, answer.content
        assert answer.json()["schemas"] == [ERROR]
        assert entra.send("GET", path).json() == made.json()

    def test_kinds_of_errors_are_named(self, entra):
        path = f"Users/{entra.create(user_name='jane').json()['id']}"
        assert is_error(entra.patch(path, replace("id", "7")), 400, "mutability")
        assert is_error(entra.patch(path, replace("emails[", "x")), 400, "invalidPath")
        assert is_error(entra.patch(path, replace("active", "perhaps")), 400, "invalidValue")
        assert is_error(entra.send("GET", "Users?filter=x"), 400, "invalidFilter")
        assert is_error(entra.send("POST", "Users", "{"), 400, "invalidSyntax")
        many = patch_body(*[replace("active", True)] * 1001)
        assert is_error(entra.send("PATCH", path, many), 400, "tooMany")

    @pytest.mark.parametrize(
        ("method", "path", "status"),
        [
            ("POST", "Bulk", 501),
            ("GET", "Users?sortBy=userName", 501),
            ("GET", "Me", 501),
            ("GET", "", 501),
            ("DELETE", "Users", 405),
            ("POST", "Schemas", 405),
            ("PUT", "ServiceProviderConfig", 405),
            ("GET", "Users/1/2", 404),
            ("GET", "Unknown", 404),
            ("GET", "Users/%00", 404),
            ("GET", "Users/" + "9" * 400, 404),
            ("GET", "Users/-1", 404),
            ("GET", "Users/007", 404),
            ("GET", "Groups/7", 404),
            ("GET", "Groups/" + "0" * 32, 404),
            ("GET", "Groups/%00", 404),
            ("GET", "Schemas/none", 404),
            ("GET", "Schemas?filter=x", 403),
            ("PUT", "Users/999999", 404),
            ("DELETE", "Groups/999999", 404),
        ],
    )
    def test_unusual_requests_have_scim_errors(self, entra, method, path, status):
        body = {"schemas": [USER], "userName": "a@b.example"} if method in {"POST", "PUT"} else None
        assert is_error(entra.send(method, path, body), status)

    def test_other_media_types_are_refused(self, entra):
        body = {"schemas": [USER], "userName": "jane@clinic.example"}
        answer = entra.send("POST", "Users", body, content_type="text/plain")
        assert is_error(answer, 415)

    def test_large_bodies_are_refused(self, entra):
        body = {"schemas": [USER], "userName": "a@b.example", "x": "y" * (2 * 1024 * 1024)}
        assert is_error(entra.send("POST", "Users", body), 413)

    def test_rate_limit_counts_per_provider(self, entra, okta, settings):
        settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": {"scim": "2/hour"}}
        assert entra.send("GET", "Users").status_code == 200
        assert entra.send("GET", "Users").status_code == 200
        refused = entra.send("GET", "Users")
        assert is_error(refused, 429)
        assert int(refused["Retry-After"]) > 0
        assert okta.send("GET", "Users").status_code == 200

    def test_odd_group_members_are_left_out(self, entra):
        odd = [{"value": ""}, {"value": "\U0001f600"}, {"value": "9" * 300}, {"display": "x"}]
        body = {"schemas": [GROUP], "displayName": "Nurses", "members": odd}
        answer = entra.send("POST", "Groups", body)
        assert answer.status_code == 201, answer.content
        assert "members" not in answer.json()


@pytest.mark.django_db(transaction=True)
class TestRaces:
    @pytest.fixture
    def provider(self, scim_settings):
        return Provider("entra")

    def test_one_of_sixteen_equal_creations_wins(self, provider, run_concurrently):
        answers = run_concurrently(lambda: provider.create(user_name="jane").status_code, times=16)
        assert sorted(answers) == [201] + [409] * 15
        assert get_user_model().objects.count() == ProvisionedUser.objects.count() == 1

    def test_collision_of_the_site_is_not_reported_as_a_taken_name(self, provider):
        def collide(**kwargs):
            row = UsedToken(token_id="same", expires_at=utc_now())
            UsedToken.objects.bulk_create([row, row])

        post_save.connect(collide, sender=get_user_model())
        try:
            with pytest.raises(IntegrityError):
                provider.create(user_name="jane")
        finally:
            post_save.disconnect(collide, sender=get_user_model())

    def test_one_of_sixteen_reactivations_wins(self, provider, run_concurrently):
        made = provider.create(user_name="jane").json()
        provider.send("DELETE", f"Users/{made['id']}")
        answers = run_concurrently(lambda: provider.create(user_name="jane").status_code, times=16)
        assert sorted(answers) == [201] + [409] * 15
        assert account(made).is_active

    def test_one_of_sixteen_equal_groups_is_created(self, provider, run_concurrently):
        answers = run_concurrently(lambda: provider.group("Nurses").status_code, times=16)
        assert sorted(answers) == [201] + [409] * 15
        assert ProvisioningGroup.objects.count() == 1

    def test_members_added_at_once_are_all_kept(self, provider, run_concurrently):
        users = [provider.create(user_name=f"user{number}").json()["id"] for number in range(8)]
        path = f"Groups/{provider.group('Nurses').json()['id']}"
        waiting = list(users)

        def add():
            member = waiting.pop()
            operation = {"op": "add", "path": "members", "value": [{"value": member}]}
            return provider.patch(path, operation).status_code

        assert run_concurrently(add, times=8) == [200] * 8
        members = provider.send("GET", path).json()["members"]
        assert {member["value"] for member in members} == set(users)

    def test_changes_at_once_are_all_kept(self, provider, run_concurrently):
        made = provider.create(user_name="jane").json()
        changes = [
            replace("displayName", "J"),
            replace("externalId", "x"),
            replace("active", False),
        ]
        waiting = list(changes)
        answers = run_concurrently(
            lambda: provider.patch(f"Users/{made['id']}", waiting.pop()).status_code, times=3
        )
        assert answers == [200] * 3
        shown = provider.send("GET", f"Users/{made['id']}").json()
        assert (shown["displayName"], shown["externalId"], shown["active"]) == ("J", "x", False)

    def test_an_account_is_matched_once(self, provider, run_concurrently, make_user):
        make_user("joe@clinic.example")
        path = 'Users?filter=userName eq "joe@clinic.example"'
        answers = run_concurrently(
            lambda: provider.send("GET", path).json()["totalResults"], times=16
        )
        assert answers == [1] * 16
        assert ProvisionedUser.objects.count() == 1

    def test_one_of_two_administrators_stays(self, provider, run_concurrently):
        users = [provider.create(user_name=name).json()["id"] for name in ("jane", "joe")]
        provider.group("Admins", *users)
        waiting = list(users)
        answers = run_concurrently(
            lambda: provider.patch(f"Users/{waiting.pop()}", replace("active", False)).status_code,
            times=2,
        )
        assert sorted(answers) == [200, 409]

    def test_deletion_and_groups_at_once_leave_no_error(self, provider, run_concurrently):
        users = [provider.create(user_name=f"user{number}").json()["id"] for number in range(6)]
        path = f"Groups/{provider.group('Technicians', *users).json()['id']}"

        def delete(key):
            return lambda: provider.send("DELETE", f"Users/{key}").status_code

        def leave(key):
            operation = {"op": "remove", "path": f'members[value eq "{key}"]'}
            return lambda: provider.patch(path, operation).status_code

        answers = run_concurrently([*map(delete, users[:3]), *map(leave, users)])
        assert set(answers) <= {200, 204}
        assert ProvisioningMembership.objects.count() == 0

    def test_two_tokens_at_once_are_two(self, scim_settings, run_concurrently):
        def create():
            try:
                return token_create(provider="okta", lifetime=timedelta(days=1))[1]
            except Exception as error:
                return type(error).__name__

        results = run_concurrently(create, times=8)
        assert results.count("Conflict") == 6
        assert ProvisioningToken.objects.filter(provider="okta").count() == 2


class TestSize:
    @pytest.fixture
    def many(self, entra):
        """Creates many users of the provider, without requests; returns their ids."""
        made = []

        def make(count):
            model = get_user_model()
            numbers = range(len(made), len(made) + count)
            users = [model(email=f"user{n}@clinic.example", password="!") for n in numbers]
            model.objects.bulk_create(users, batch_size=500)
            made.extend(users)
            rows = [
                ProvisionedUser(
                    provider="entra",
                    user=user,
                    user_name=user.email,
                    user_name_folded=user.email,
                    external_id=user.email,
                    attributes={"displayName": f"User {user.pk}"},
                )
                for user in users
            ]
            ProvisionedUser.objects.bulk_create(rows, batch_size=500)
            return [str(user.pk) for user in users]

        return make

    def queries(self, provider, path):
        with CaptureQueriesContext(
            connection,
        ) as found:
            assert provider.send("GET", path).status_code == 200
        return len(found)

    def test_a_page_costs_the_same_number_of_queries(self, entra, many):
        keys = many(60)
        entra.group("Nurses", *keys)
        entra.group("Doctors", *keys)
        entra.send("GET", "Users")  # notes the use of the token
        assert self.queries(entra, "Users?count=2") == self.queries(entra, "Users?count=60") <= 4
        assert self.queries(entra, "Groups?count=1") == self.queries(entra, "Groups") <= 4

    def test_a_member_costs_the_same_in_a_large_group(self, entra, many):
        keys = many(1001)
        path = f"Groups/{entra.group('Nurses', *keys[:1000]).json()['id']}"
        add = {"op": "add", "path": "members", "value": [{"value": keys[1000]}]}
        with CaptureQueriesContext(connection) as found:
            answer = entra.patch(path, add)
        assert answer.status_code == 204
        assert answer["ETag"]
        assert ProvisioningMembership.objects.count() == 1001
        assert not [query for query in found if keys[500] in query["sql"].split()]
        with_members = entra.send("PATCH", f"{path}?attributes=members", patch_body(add)).json()
        assert len(with_members["members"]) == 1001
        remove = {"op": "remove", "path": f'members[value eq "{keys[0]}"]'}
        entra.patch(path, remove)
        assert ProvisioningMembership.objects.count() == 1000

    def test_a_page_loads_only_its_own_users(self, entra, many):
        keys = many(1_000)
        loaded, seen = [], []

        def note(instance, **kwargs):
            loaded.append(str(instance.user_id))

        post_init.connect(note, sender=ProvisionedUser)
        for start in range(1, 1_001, 200):
            loaded.clear()
            page = entra.send("GET", f"Users?startIndex={start}&count=200").json()
            assert page["totalResults"] == 1_000
            shown = [row["id"] for row in page["Resources"]]
            assert loaded == shown
            seen += shown
        assert seen == keys

    def test_a_request_costs_the_same_at_any_number_of_users(self, entra, many):
        entra.send("GET", "Users")  # notes the use of the token
        few = self.statements(entra, many(10))
        assert few == self.statements(entra, many(200))
        assert few["create"] <= 14
        assert few["change"] <= 26

    def statements(self, provider, keys):
        """Statements of each request for one of the users ``keys``."""
        counts = {}
        for name, (method, path, body) in self.requests(keys).items():
            with CaptureQueriesContext(connection) as found:
                assert provider.send(method, path, body).status_code in {200, 201, 204}
            counts[name] = len(found)
        return counts

    def requests(self, keys):
        key = keys[len(keys) // 2]
        new = f"new-{len(keys)}@clinic.example"
        return {
            "create": ("POST", "Users", {"schemas": [USER], "userName": new}),
            "change": ("PATCH", f"Users/{key}", patch_body(replace("displayName", f"For {key}"))),
            "read": ("GET", f"Users/{key}", None),
            "find": ("GET", f'Users?filter=userName eq "{new}"', None),
            "find nobody": ("GET", 'Users?filter=userName eq "nobody@clinic.example"', None),
            "find by id": ("GET", 'Users?filter=externalId eq "x"', None),
            "delete": ("DELETE", f"Users/{key}", None),
        }

    def test_a_request_reads_no_other_users(self, entra, many):
        keys = many(2_000)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        plans = []

        def explain(execute, sql, params, is_many, context):
            if sql.startswith("SELECT "):
                with context["connection"].cursor() as cursor:
                    cursor.cursor.execute(f"{EXPLAIN[connection.vendor]} {sql}", params)
                    plans.append((sql, str(cursor.cursor.fetchall())))
            return execute(sql, params, is_many, context)

        with connection.execute_wrapper(explain):
            for method, path, body in self.requests(keys).values():
                assert entra.send(method, path, body).status_code in {200, 201, 204}
        assert len(plans) > 20
        wasteful = [plan for plan in plans if MANY_ROWS[connection.vendor].search(plan[1])]
        assert wasteful == []
