"""Which account an identity signs in to: linked, created, with which names and role."""

from __future__ import annotations

import json

import pytest
from conftest import PASSWORD, enrol, send
from django.contrib.auth import get_user_model
from django.test import RequestFactory
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.exceptions import APIException

from myometrics_auth.conf import ROLES
from myometrics_auth.federation.claims import Claims
from myometrics_auth.federation.conf import parse_providers
from myometrics_auth.federation.identities import identity_link, identity_unlink
from myometrics_auth.federation.models import FederatedSession, Identity
from myometrics_auth.federation.providers import get_provider
from myometrics_auth.models import AddressOwnership, EmailChange, Session
from myometrics_auth.models.address_ownerships import address_hashes
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db


def user():
    return get_user_model().objects.get()


@pytest.fixture
def verified(make_user):
    return make_user("ada@clinic.example", verified_at=utc_now())


def test_verified_account_of_the_address_is_linked(provider, exchange, verified, published):
    answer = exchange(provider.id_token(email="ADA@Clinic.Example"))
    assert answer.status_code == 200
    assert Identity.objects.get().user == verified
    actions = [event.action for event in published]
    assert actions == ["identity_linked", "login_succeeded"]


def test_verified_as_text_counts(provider, exchange):
    assert exchange(provider.id_token(email_verified="true")).status_code == 200


def test_identity_is_known_by_subject_not_by_address(provider, exchange):
    exchange(provider.id_token())
    answer = exchange(provider.id_token(email="new@clinic.example", email_verified=False))
    assert answer.status_code == 200
    assert answer.json()["user"]["email"] == "ada@clinic.example"
    assert get_user_model().objects.count() == 1


def test_session_belongs_to_the_identity(provider, exchange):
    exchange(provider.id_token(sid="s-1"))
    federated = FederatedSession.objects.get()
    assert federated.session == Session.objects.get()
    assert (federated.provider_session, federated.is_of_bearer) == ("s-1", False)


NAMES = {
    "given_and_family": ({"given_name": "Ada", "family_name": "King"}, ("Ada", "King")),
    "only_given": ({"given_name": "Ada", "family_name": None}, ("Ada", "-")),
    "only_family": ({"given_name": None, "family_name": "King"}, ("King", "-")),
    "whole_name": (
        {"given_name": None, "family_name": None, "name": "Ada van King"},
        ("Ada", "van King"),
    ),
    "single_word": ({"given_name": None, "family_name": None, "name": "Ada"}, ("Ada", "-")),
    "none": ({"given_name": None, "family_name": None}, ("", "")),
    "too_long": ({"given_name": "A" * 40, "family_name": "B" * 31}, ("A" * 30, "B" * 30)),
    "no_text": ({"given_name": ["Ada"], "family_name": "King"}, ("King", "-")),
    "nul": ({"given_name": "A\x00da", "family_name": "King"}, ("King", "-")),
}


@pytest.mark.parametrize("case", NAMES)
def test_names_of_a_new_account(case, provider, exchange):
    claims, expected = NAMES[case]
    assert exchange(provider.id_token(**claims)).status_code == 200
    assert (user().first_name, user().last_name) == expected


values = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.sampled_from(["given_name", "family_name", "name"]), values))
def test_names_of_any_claims_can_be_stored(claims):
    provider = parse_providers(
        {"a": {"issuer": "https://a.example", "client_id": "c"}}, roles=ROLES
    )["a"]
    first, last = Claims(provider, "17", claims, 0.0, 1.0).names
    assert len(first) <= 30
    assert len(last) <= 30
    assert "\x00" not in first + last
    assert bool(first) == bool(last)


def test_claim_outside_the_token_is_taken_from_userinfo(provider, bearer, configure):
    configure(access_tokens="jwt", required_claims={"hd": ["clinic.example"]})
    provider.userinfo["17"] = {"hd": "clinic.example"}
    assert bearer(provider.access_token()).get("/api/auth/user/").status_code == 200
    assert provider.calls["/userinfo"] == 1


def test_userinfo_of_another_subject_is_ignored(provider, bearer, configure):
    configure(access_tokens="jwt", required_claims={"hd": ["clinic.example"]})
    provider.userinfo["17"] = {"sub": "18", "hd": "clinic.example"}
    answer = bearer(provider.access_token()).get("/api/auth/user/")
    assert (answer.status_code, answer.json()["code"]) == (403, "access_not_allowed")


def test_required_claims_apply_to_every_sign_in(provider, exchange, configure):
    configure(required_claims={"hd": ["clinic.example"]})
    assert exchange(provider.id_token(hd="clinic.example")).status_code == 200
    assert exchange(provider.id_token(hd="other.example")).status_code == 403


GROUPS = {"radiology-admins": "admin", "technicians": "technician"}


@pytest.fixture
def by_groups(configure):
    configure(role_claim="groups", roles=GROUPS)


def test_role_of_a_new_account(by_groups, provider, exchange):
    exchange(provider.id_token(groups=["staff", "radiology-admins", "technicians"]))
    assert (user().role, user().is_staff, user().is_superuser) == ("admin", True, False)


@pytest.mark.parametrize("groups", [None, [], ["staff"], "staff", {"technicians": 1}, [["x"]]])
def test_no_group_gives_the_default_role(groups, by_groups, provider, exchange):
    assert exchange(provider.id_token(groups=groups)).status_code == 200
    assert user().role == "doctor"


def test_role_is_applied_at_each_sign_in(by_groups, provider, exchange, administrator, published):
    exchange(provider.id_token(groups="technicians"))
    exchange(provider.id_token(groups=["radiology-admins"]))
    ada = get_user_model().objects.get(email="ada@clinic.example")
    assert (ada.role, ada.is_staff) == ("admin", True)
    exchange(provider.id_token(groups=["staff"]))
    ada.refresh_from_db()
    assert ada.role == "admin"
    answer = exchange(provider.id_token(groups=["technicians"]))
    assert answer.json()["user"]["role"] == "technician"
    ada.refresh_from_db()
    assert (ada.role, ada.is_staff) == ("technician", False)
    assert [event.action for event in published].count("user_updated") == 2


def test_last_administrator_is_never_demoted(by_groups, provider, exchange):
    exchange(provider.id_token(groups=["radiology-admins"]))
    answer = exchange(provider.id_token(groups=["technicians"]))
    assert answer.status_code == 200
    assert answer.json()["user"]["role"] == "admin"
    assert user().role == "admin"


def test_own_second_factor_follows_the_provider(
    provider, exchange, configure, doctor, sign_in, clock, api, published
):
    client = sign_in(doctor)
    enrol(client)
    clock.shift(60)
    published.clear()
    get_user_model().objects.update(verified_at=utc_now())
    answer = exchange(provider.id_token(email=doctor.email, sid="s-1"))
    assert answer.status_code == 200
    assert answer.json()["mfa_required"] is True
    body = {"mfa_token": answer.json()["mfa_token"], "code": client.app.at(utc_now())}
    assert send(api, "post", "auth/login/mfa/", {**body, "code": "x"}).status_code == 401
    signed_in = send(api, "post", "auth/login/mfa/", body)
    assert signed_in.status_code == 200, signed_in.json()
    signs = [event for event in published if event.action.startswith("login_")]
    assert [event.details for event in signs] == [{"provider": "hospital"}] * 2
    federated = FederatedSession.objects.get()
    assert federated.provider_session == "s-1"
    assert federated.session.second_factor


def test_second_factor_at_the_provider_replaces_the_own(provider, exchange, doctor, sign_in):
    enrol(sign_in(doctor))
    get_user_model().objects.update(verified_at=utc_now())
    answer = exchange(provider.id_token(email=doctor.email, amr=["mfa"]))
    assert "access" in answer.json()


def test_deactivated_user_is_refused(provider, exchange, published):
    exchange(provider.id_token())
    get_user_model().objects.update(is_active=False)
    assert exchange(provider.id_token()).status_code == 401
    (failed,) = [event for event in published if event.action == "login_failed"]
    assert failed.details == {"provider": "hospital"}


def test_user_without_password_cannot_sign_in_by_password(provider, exchange, api):
    exchange(provider.id_token())
    body = {"email": "ada@clinic.example", "password": PASSWORD}
    assert send(api, "post", "auth/login/", body).status_code == 401


def test_export_holds_the_identities(provider, exchange, api):
    answer = exchange(provider.id_token()).json()
    api.credentials(HTTP_AUTHORIZATION=f"Bearer {answer['access']}")
    export = api.get("/api/users/me/export/", {"format": "json"})
    content = json.loads(b"".join(export.streaming_content))
    (identity,) = content["identities"]
    assert identity["provider"] == "hospital"
    assert identity["subject"] == "17"


@pytest.mark.parametrize("mode", ["invitation", "closed"])
def test_closed_registration_makes_no_account_by_default(mode, provider, exchange, configure):
    configure(auth={"REGISTRATION": mode})
    answer = exchange(provider.id_token())
    assert (answer.status_code, answer.json()["code"]) == (403, "access_not_allowed")
    configure(provisioning="create", auth={"REGISTRATION": mode})
    assert exchange(provider.id_token()).status_code == 200


def test_reserved_address_makes_no_account(provider, exchange, doctor):
    EmailChange.objects.create(
        user=doctor,
        old_email="ada@clinic.example",
        old_canonical="ada@clinic.example",
        new_email=doctor.email,
        confirmed_at=utc_now(),
    )
    answer = exchange(provider.id_token())
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_not_linked")
    assert get_user_model().objects.count() == 1


def test_unverified_account_must_verify_where_that_is_required(
    provider, exchange, configure, make_user
):
    ada = make_user("ada@clinic.example", self_registered=True)
    Identity.objects.create(user=ada, issuer=provider.issuer, subject="17", provider="hospital")
    configure(auth={"EMAIL_VERIFICATION": "required"})
    answer = exchange(provider.id_token())
    assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")
    assert not Session.objects.exists()


def addresses_of(user):
    own = AddressOwnership.objects.filter(user=user, until=None)
    hashes = set(own.values_list("address_hash", flat=True))
    tried = ("ada@clinic.example", "ada@university.example")
    return [address for address in tried if hashes & set(address_hashes(address))]


def test_linked_identity_vouches_for_its_address_until_unlinked(provider, exchange, verified):
    token = provider.id_token(email="Ada@University.example")
    identity = identity_link(
        user=verified,
        session=None,
        provider=get_provider("hospital"),
        id_token=token,
        request=RequestFactory().post("/"),
    )
    assert addresses_of(verified) == ["ada@clinic.example", "ada@university.example"]
    identity_unlink(user=verified, identity_id=identity.pk, request=RequestFactory().post("/"))
    assert addresses_of(verified) == ["ada@clinic.example"]


def test_linked_identity_vouches_for_the_address_it_has_now(provider, exchange, verified):
    exchange(provider.id_token())
    assert exchange(provider.id_token(email="ada@university.example")).status_code == 200
    assert addresses_of(verified) == ["ada@clinic.example", "ada@university.example"]
    unproven = provider.id_token(email="ada@elsewhere.example", email_verified=False)
    assert exchange(unproven).status_code == 200
    assert exchange(provider.id_token()).status_code == 200
    assert addresses_of(verified) == ["ada@clinic.example"]


def test_linked_identity_gets_an_address_that_another_user_gave_up(
    provider, exchange, verified, make_user
):
    exchange(provider.id_token())
    other = make_user("ada@university.example", verified_at=utc_now())
    assert exchange(provider.id_token(email="ada@university.example")).status_code == 200
    assert addresses_of(verified) == ["ada@clinic.example"]
    other.delete()
    assert exchange(provider.id_token(email="ada@university.example")).status_code == 200
    assert addresses_of(verified) == ["ada@clinic.example", "ada@university.example"]


def test_address_of_an_identity_survives_a_new_slug(provider, exchange, configure, verified):
    exchange(provider.id_token())
    exchange(provider.id_token(email="ada@university.example"))
    configure("renamed")
    token = provider.id_token(email="ada@university.example")
    assert exchange(token, slug="renamed").status_code == 200
    assert addresses_of(verified) == ["ada@clinic.example", "ada@university.example"]
    assert Identity.objects.get().provider == "renamed"


def test_provider_that_is_not_trusted_changes_no_address_of_a_trusted_one(
    provider, exchange, settings, verified
):
    exchange(provider.id_token())
    trusted = settings.MYOMETRICS_AUTH["IDENTITY_PROVIDERS"]["hospital"]
    both = {"hospital": trusted, "research": {**trusted, "trust_email": False}}
    settings.MYOMETRICS_AUTH = {**settings.MYOMETRICS_AUTH, "IDENTITY_PROVIDERS": both}
    token = provider.id_token(email="ada@university.example")
    assert exchange(token, slug="research").status_code == 200
    assert addresses_of(verified) == ["ada@clinic.example"]
    assert Identity.objects.get().email == "ada@clinic.example"


def test_address_that_the_provider_has_not_verified_has_no_owner(provider, exchange, verified):
    identity_link(
        user=verified,
        session=None,
        provider=get_provider("hospital"),
        id_token=provider.id_token(email="ada@university.example", email_verified="false"),
        request=RequestFactory().post("/"),
    )
    assert addresses_of(verified) == ["ada@clinic.example"]


def test_nothing_is_linked_once_the_session_has_ended(provider, exchange, verified, sign_in):
    sign_in(verified)
    session = Session.objects.get()
    Session.objects.end()
    with pytest.raises(APIException) as refusal:
        identity_link(
            user=verified,
            session=session,
            provider=get_provider("hospital"),
            id_token=provider.id_token(sub="thief"),
            request=RequestFactory().post("/"),
        )
    assert refusal.value.status_code == 401
    assert not Identity.objects.exists()
