"""Attacks on the sign-in with identity providers: all refused, nothing linked, nothing made."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from http.client import HTTPConnection

import pytest
from conftest import later, send
from django.contrib.auth import get_user_model
from federation_fixtures import respelled
from joserfc.jwk import ECKey, RSAKey
from rest_framework.test import APIClient

from myometrics_auth.federation.bearers import foreign_tokens_sweep
from myometrics_auth.federation.discovery import endpoint
from myometrics_auth.federation.models import (
    FederatedSession,
    ForeignToken,
    Identity,
    LinkRequest,
)
from myometrics_auth.federation.providers import get_provider
from myometrics_auth.models import Session
from myometrics_core.times import utc_now
from myometrics_testing.oidc_provider import CLIENT_ID, respond

pytestmark = pytest.mark.django_db

HOUR = 3600
FRONT_END = "https://clinic.example/callback"


def b64(data):
    content = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def unsigned(header, claims, signature=""):
    return f"{b64(header)}.{b64(claims)}.{signature}"


def signed_by_public_key(provider, typ):
    """HS256 under the bytes of the published RSA key."""
    header = {"alg": "HS256", "typ": typ, "kid": "rsa"}
    token = unsigned(header, provider.claims()).rstrip(".")
    key = provider.keys["rsa"].as_pem(private=False)
    return f"{token}.{b64(hmac.digest(key, token.encode(), 'sha256'))}"


def spoiled(token):
    """The token with other claims under the same signature."""
    header, payload, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return f"{header}.{b64({**claims, 'sub': '18'})}.{signature}"


def introspected(provider, **changes):
    """What introspection says about an access token."""
    given = {"active": True, "client_id": CLIENT_ID, "token_type": "Bearer"}
    return provider.claims(
        **given, **{"email": "ada@clinic.example", "email_verified": True, **changes}
    )


def now():
    return int(time.time())


FOREIGN_KEY = RSAKey.generate_key(2048, {"kid": "rsa"})

ID_TOKENS = {
    "issuer_of_another_provider": lambda p: p.id_token(iss="https://other.example"),
    "issuer_with_a_slash_more": lambda p: p.id_token(iss=f"{p.issuer}/"),
    "no_issuer": lambda p: p.id_token(iss=None),
    "audience_of_another_application": lambda p: p.id_token(aud="another-application"),
    "no_audience": lambda p: p.id_token(aud=None),
    "audience_in_an_object": lambda p: p.id_token(aud={CLIENT_ID: True}),
    "several_audiences_without_azp": lambda p: p.id_token(aud=[CLIENT_ID, "other"]),
    "azp_of_another_application": lambda p: p.id_token(azp="another-application"),
    "several_audiences_and_azp_of_another": lambda p: p.id_token(
        aud=[CLIENT_ID, "other"], azp="other"
    ),
    "alg_none": lambda p: unsigned({"alg": "none", "kid": "rsa"}, p.claims()),
    "alg_None_capitalised": lambda p: unsigned({"alg": "NoNe", "kid": "rsa"}, p.claims()),
    "signature_stripped": lambda p: p.id_token().rpartition(".")[0] + ".",
    "hs256_with_the_public_key": lambda p: signed_by_public_key(p, "JWT"),
    "key_of_another_provider": lambda p: p.id_token(options={"key": FOREIGN_KEY}),
    "key_in_the_header": lambda p: p.id_token(
        options={
            "key": FOREIGN_KEY,
            "kid": "new",
            "headers": {"jwk": FOREIGN_KEY.as_dict(private=False)},
        }
    ),
    "key_url_in_the_header": lambda p: p.id_token(
        options={"key": FOREIGN_KEY, "kid": "new", "headers": {"jku": f"{p.issuer}/jwks"}}
    ),
    "unknown_critical_header": lambda p: p.id_token(
        options={"headers": {"crit": ["exotic"], "exotic": True}}
    ),
    "claims_changed_after_signing": lambda p: spoiled(p.id_token()),
    "unknown_kid": lambda p: p.id_token(options={"kid": "unknown"}),
    "no_kid_among_several_keys": lambda p: p.id_token(options={"headers": {"kid": None}}),
    "kid_of_another_key": lambda p: p.id_token(options={"kid": "ec"}),
    "kid_that_is_no_text": lambda p: unsigned({"alg": "RS256", "kid": ["rsa"]}, p.claims(), "AA"),
    "expired": lambda p: p.id_token(exp=now() - 1),
    "no_expiry": lambda p: p.id_token(exp=None),
    "expiry_that_is_text": lambda p: p.id_token(exp=str(now() + HOUR)),
    "expiry_beyond_all_dates": lambda p: p.id_token(exp=1e300),
    "not_yet_valid": lambda p: p.id_token(nbf=now() + HOUR),
    "issued_in_the_future": lambda p: p.id_token(iat=now() + HOUR),
    "no_issue_time": lambda p: p.id_token(iat=None),
    "no_subject": lambda p: p.id_token(sub=None),
    "subject_that_is_a_number": lambda p: p.id_token(sub=17),
    "subject_with_nul": lambda p: p.id_token(sub="17\x00"),
    "subject_that_is_too_long": lambda p: p.id_token(sub="1" * 256),
    "typ_of_an_access_token": lambda p: p.id_token(options={"typ": "at+jwt"}),
    "typ_of_a_logout_token": lambda p: p.id_token(options={"typ": "logout+jwt"}),
    "access_token_as_id_token": lambda p: p.access_token(),
    "logout_token_as_id_token": lambda p: p.logout_token(options={"typ": "JWT"}),
    "encrypted_token": lambda p: ".".join([b64({"alg": "dir", "enc": "A128GCM"}), *"abcd"]),
    "deeply_nested_claims": lambda p: unsigned({"alg": "RS256", "kid": "rsa"}, b"[" * 3000, "AA"),
    "not_a_token": lambda p: "some text",
    "nul": lambda p: "x\x00",
    "lone_surrogate": lambda p: "\ud800",
    "not_ascii": lambda p: p.id_token() + "é",
}


def assert_nothing_happened():
    assert not get_user_model().objects.filter(email="ada@clinic.example", verified_at=None)
    assert get_user_model().objects.count() == 0
    assert Identity.objects.count() == 0
    assert Session.objects.count() == 0
    assert FederatedSession.objects.count() == 0


@pytest.mark.parametrize("attack", ID_TOKENS)
def test_forged_id_token_is_refused(attack, provider, exchange):
    answer = exchange(ID_TOKENS[attack](provider))
    assert answer.status_code == 401, answer.json()
    assert answer.json()["code"] == "token_not_valid"
    assert_nothing_happened()


BEARERS = {
    "issuer_of_another_provider": lambda p: p.access_token(iss="https://other.example"),
    "audience_of_another_api": lambda p: p.access_token(aud="another-api"),
    "azp_of_another_application": lambda p: p.access_token(azp="another-application"),
    "alg_none": lambda p: unsigned({"alg": "none", "typ": "at+jwt"}, p.claims()),
    "hs256_with_the_public_key": lambda p: signed_by_public_key(p, "at+jwt"),
    "key_of_another_provider": lambda p: p.access_token(options={"key": FOREIGN_KEY}),
    "expired": lambda p: p.access_token(exp=now() - 1),
    "not_yet_valid": lambda p: p.access_token(nbf=now() + HOUR),
    "id_token_as_access_token": lambda p: p.id_token(),
    "id_token_with_the_other_typ": lambda p: p.access_token(options={"typ": "JWT"}),
    "logout_token_as_access_token": lambda p: p.logout_token(),
    "logout_token_with_the_other_typ": lambda p: p.logout_token(options={"typ": "at+jwt"}),
    "sender_constrained_token": lambda p: p.access_token(cnf={"jkt": "x"}),
    "unknown_kid": lambda p: p.access_token(options={"kid": "unknown"}),
    "our_issuer": lambda p: p.access_token(iss="myometrics-backend"),
    "claims_changed_after_signing": lambda p: spoiled(p.access_token()),
    "opaque_text": lambda p: "opaque",
    "huge": lambda p: "x" * 10_000,
    "not_ascii": lambda p: "t\xe4ken",
}


@pytest.mark.parametrize("attack", BEARERS)
def test_forged_bearer_is_refused(attack, provider, configure, bearer):
    configure(access_tokens="jwt")
    answer = bearer(BEARERS[attack](provider)).get("/api/auth/user/")
    assert answer.status_code == 401, answer.json()
    assert answer["WWW-Authenticate"] == "Bearer"
    assert_nothing_happened()


OPAQUE = {
    "inactive": lambda p: p.opaque_token(active=False),
    "active_as_text": lambda p: p.opaque_token(active="true"),
    "unknown": lambda p: "unknown",
    "of_another_application": lambda p: p.opaque_token(client_id="another-application"),
    "without_client_and_audience": lambda p: p.opaque_token(client_id=None),
    "for_another_api": lambda p: p.opaque_token(aud="another-api"),
    "azp_of_another_application": lambda p: p.opaque_token(azp="another-application"),
    "issuer_of_another_provider": lambda p: p.opaque_token(iss="https://other.example"),
    "refresh_token": lambda p: p.opaque_token(token_type="refresh_token"),
    "refresh_token_without_type": lambda p: p.opaque_token(token_type=None),
    "refresh_token_of_keycloak": lambda p: p.opaque_token(typ="Refresh"),
    "id_token_of_keycloak": lambda p: p.opaque_token(typ="ID"),
    "type_that_is_a_list": lambda p: p.opaque_token(typ=["Bearer"]),
    "of_a_client_without_user": lambda p: p.opaque_token(sub=None),
    "expired": lambda p: p.opaque_token(exp=now() - 1),
    "not_yet_valid": lambda p: p.opaque_token(nbf=now() + HOUR),
    "sender_constrained": lambda p: p.opaque_token(cnf={"jkt": "x"}),
}


@pytest.mark.parametrize("attack", OPAQUE)
def test_introspected_bearer_is_refused(attack, provider, configure, bearer):
    configure(access_tokens="introspection")
    answer = bearer(OPAQUE[attack](provider)).get("/api/auth/user/")
    assert answer.status_code == 401, answer.json()
    assert_nothing_happened()


GOOGLE = {
    "of_another_application": lambda p: p.google_token(aud="another", azp="another"),
    "azp_of_another_application": lambda p: p.google_token(azp="another"),
    "without_audience": lambda p: p.google_token(aud=None),
    "without_subject": lambda p: p.google_token(sub=None),
    "expired": lambda p: p.google_token(expires_in="0"),
    "negative_lifetime": lambda p: p.google_token(expires_in="-5"),
    "without_lifetime": lambda p: p.google_token(expires_in=None),
    "unknown": lambda p: "ya29.unknown",
    "id_token": lambda p: p.id_token(),
}


@pytest.mark.parametrize("attack", GOOGLE)
def test_bearer_of_tokeninfo_is_refused(attack, provider, configure, bearer):
    configure(access_tokens="tokeninfo", tokeninfo_endpoint=f"{provider.issuer}/tokeninfo")
    answer = bearer(GOOGLE[attack](provider)).get("/api/auth/user/")
    assert answer.status_code == 401, answer.json()
    assert_nothing_happened()


UNVERIFIED = {
    "false": False,
    "false_as_text": "false",
    "true_capitalised": "True",
    "number": 1,
    "missing": None,
    "list": [True],
}


@pytest.mark.parametrize("value", UNVERIFIED.values(), ids=UNVERIFIED)
def test_unverified_address_makes_no_account(value, provider, exchange):
    answer = exchange(provider.id_token(email_verified=value))
    assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")
    assert_nothing_happened()


@pytest.mark.parametrize("value", UNVERIFIED.values(), ids=UNVERIFIED)
def test_unverified_address_links_no_account(value, provider, exchange, make_user, mailoutbox):
    make_user("ada@clinic.example", verified_at=utc_now())
    answer = exchange(provider.id_token(email_verified=value))
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_not_linked")
    assert not Identity.objects.exists()
    assert not Session.objects.exists()


REFUSED_LINKS = {
    "address_not_verified_here": ({"verified_at": None}, {}, {}),
    "provider_not_trusted": ({}, {"trust_email": False}, {}),
    "only_linked_accounts": ({}, {"provisioning": "linked"}, {}),
    "address_in_another_claim": (
        {},
        {},
        {"email": None, "preferred_username": "ada@clinic.example"},
    ),
    "deactivated_account": ({"is_active": False}, {}, {}),
}


@pytest.mark.parametrize("attack", REFUSED_LINKS)
def test_account_of_another_user_is_not_linked(attack, provider, exchange, configure, make_user):
    fields, keys, claims = REFUSED_LINKS[attack]
    make_user("ada@clinic.example", **{"verified_at": utc_now(), **fields})
    configure(**keys)
    answer = exchange(provider.id_token(**claims))
    assert answer.status_code == 403, answer.json()
    assert not Identity.objects.exists()
    assert not Session.objects.exists()
    assert get_user_model().objects.count() == 1


def test_second_identity_of_an_issuer_is_not_linked_by_address(provider, exchange):
    assert exchange(provider.id_token("17")).status_code == 200
    answer = exchange(provider.id_token("18"))
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_not_linked")
    assert Identity.objects.count() == 1


FORBIDDEN = {
    "tenant_that_is_not_allowed": {"hd": "elsewhere.example"},
    "no_tenant": {},
    "tenant_in_upper_case": {"hd": "CLINIC.EXAMPLE"},
    "tenant_that_is_true": {"hd": True},
}


@pytest.mark.parametrize("attack", FORBIDDEN)
def test_tenant_is_refused(attack, provider, exchange, configure):
    configure(required_claims={"hd": ["clinic.example"]})
    answer = exchange(provider.id_token(**FORBIDDEN[attack]))
    assert (answer.status_code, answer.json()["code"]) == (403, "access_not_allowed")
    assert_nothing_happened()


@pytest.mark.parametrize("provisioning", ["link", "linked"])
def test_account_is_not_made_without_provisioning(provisioning, provider, exchange, configure):
    configure(provisioning=provisioning)
    answer = exchange(provider.id_token())
    assert (answer.status_code, answer.json()["code"]) == (403, "access_not_allowed")
    assert_nothing_happened()


def test_account_is_not_made_if_the_provider_is_not_trusted(provider, exchange, configure):
    configure(trust_email=False)
    answer = exchange(provider.id_token())
    assert (answer.status_code, answer.json()["code"]) == (403, "access_not_allowed")
    assert_nothing_happened()


def test_homoglyph_address_makes_no_account(provider, exchange):
    answer = exchange(provider.id_token(email="\u0430da@clinic.example"))
    assert answer.status_code == 403
    assert_nothing_happened()


FOLDED = {
    "kelvin_sign": "\u212aim@clinic.example",
    "full_width_letter": "\uff4bim@clinic.example",
    "full_width_at_sign": "kim\uff20clinic.example",
}


@pytest.mark.parametrize("address", FOLDED.values(), ids=FOLDED)
def test_other_mailbox_that_folds_to_an_account_is_not_linked(
    address, provider, exchange, make_user, mailoutbox
):
    make_user("kim@clinic.example", verified_at=utc_now())
    answer = exchange(provider.id_token(email=address))
    assert (answer.status_code, answer.json()["code"]) == (403, "identity_not_linked")
    assert not Identity.objects.exists()
    assert not Session.objects.exists()
    assert not LinkRequest.objects.exists()


def test_replayed_id_token_is_refused(provider, exchange):
    token = provider.id_token()
    assert exchange(token).status_code == 200
    answer = exchange(token)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert Session.objects.count() == 1


def test_replay_with_another_spelling_of_the_signature_is_refused(provider, exchange):
    token = provider.id_token(options={"key": "ec"})
    assert exchange(token).status_code == 200
    assert exchange(respelled(token)).status_code == 401
    assert Session.objects.count() == 1


@pytest.mark.parametrize("kind", ["jwt", "introspection"])
def test_ended_bearer_with_another_spelling_of_the_signature_is_refused(
    kind, provider, configure, bearer, exchange
):
    configure(access_tokens=kind)
    token = provider.access_token(options={"key": "ec"})
    other = respelled(token)
    for one in (token, other):
        provider.tokens[one] = introspected(provider)
    client = bearer(token)
    assert client.get("/api/auth/user/").status_code == 200
    assert send(client, "post", "auth/logout/", {}).status_code == 200
    assert exchange(other, kind="access_token").status_code == 401
    for _ in range(2):
        answer = bearer(other).get("/api/auth/user/")
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert exchange(other, kind="access_token").status_code == 401
    assert sorted(ForeignToken.objects.values_list("state", flat=True)) == ["accepted", "refused"]
    assert Session.objects.count() == 1


def test_other_spelling_of_a_bearer_in_use_is_refused(provider, configure, bearer, exchange):
    configure(access_tokens="jwt")
    token = provider.access_token(options={"key": "ec"})
    client = bearer(token)
    assert client.get("/api/auth/user/").status_code == 200
    assert bearer(respelled(token)).get("/api/auth/user/").status_code == 401
    assert client.get("/api/auth/user/").status_code == 200
    assert exchange(token, kind="access_token").status_code == 200


def test_bearer_that_was_refused_is_tried_again(provider, configure, bearer):
    configure(access_tokens="jwt", auth={"MFA_REQUIRED_ROLES": ["doctor"]})
    client = bearer(provider.access_token())
    assert client.get("/api/auth/user/").status_code == 403
    configure(access_tokens="jwt", auth={"MFA_REQUIRED_ROLES": []})
    with later(minutes=1, seconds=1):
        assert client.get("/api/auth/user/").status_code == 200


def test_bearer_of_unknown_expiry_is_tried_again_when_its_row_is_deleted(
    provider, configure, bearer
):
    configure(access_tokens="introspection")
    token = provider.access_token()
    provider.tokens[token] = introspected(provider, exp=None)
    client = bearer(token)
    assert client.get("/api/auth/user/").status_code == 200
    with later(hours=1, minutes=1):
        assert client.get("/api/auth/user/").status_code == 401
        foreign_tokens_sweep()
        assert client.get("/api/auth/user/").status_code == 200


def test_token_with_a_surrogate_in_its_header_is_refused(provider, configure, exchange):
    configure(access_tokens="jwt")
    token = "\ud800" + provider.access_token()
    assert exchange(token, kind="access_token").status_code == 401


def test_access_token_is_not_exchanged_if_switched_off(provider, exchange):
    answer = exchange(provider.access_token(), kind="access_token")
    assert answer.status_code == 401
    assert_nothing_happened()


NOT_ASCII = {"lone_surrogate": "\ud800", "not_ascii": "t\xe4ken"}


@pytest.mark.parametrize("kind", ["jwt", "introspection", "tokeninfo"])
@pytest.mark.parametrize("token", NOT_ASCII.values(), ids=NOT_ASCII)
def test_access_token_that_is_not_ascii_is_sent_nowhere(token, kind, provider, exchange, configure):
    configure(access_tokens=kind, tokeninfo_endpoint=f"{provider.issuer}/tokeninfo")
    assert exchange(token, kind="access_token").status_code == 401
    assert not provider.forms


BODIES = {
    "none": {},
    "both": {"id_token": "x", "access_token": "y"},
    "empty": {"id_token": ""},
    "null": {"id_token": None},
    "number": {"id_token": 17},
    "list": {"id_token": ["x"]},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_malformed_body_is_a_400(body, provider, configure):
    answer = send(APIClient(), "post", "auth/providers/hospital/token/", body)
    assert answer.status_code == 400, answer.json()
    assert "id_token" in answer.json()["field_errors"]


# --- the code flow

REDIRECTS = {
    "another_site": "https://evil.example/callback",
    "subdomain_that_looks_alike": "https://clinic.example.evil.example/",
    "user_in_the_host": "https://clinic.example@evil.example/",
    "user_before_the_host": "https://evil.example@clinic.example/",
    "backslash": "https://clinic.example\\@evil.example/",
    "http_instead_of_https": "http://clinic.example/callback",
    "another_port": "https://clinic.example:8443/callback",
    "without_scheme": "//clinic.example/callback",
    "javascript": "javascript:alert(1)//clinic.example",
    "fragment": "https://clinic.example/#token",
    "line_break": "https://clinic.example/\r\nLocation: https://evil.example",
    "path_only": "/callback",
}


@pytest.mark.parametrize("uri", REDIRECTS.values(), ids=REDIRECTS)
def test_open_redirect_is_refused(uri, configure):
    path = "auth/providers/hospital/authorize/"
    answer = send(APIClient(), "post", path, {"redirect_uri": uri})
    assert answer.status_code == 400, answer.json()
    assert list(answer.json()["field_errors"]) == ["redirect_uri"]


@pytest.fixture
def begin(configure):
    def begin_at(slug="hospital"):
        path = f"auth/providers/{slug}/authorize/"
        answer = send(APIClient(), "post", path, {"redirect_uri": FRONT_END})
        assert answer.status_code == 200, answer.json()
        return answer.json()

    return begin_at


def finish(body, slug="hospital"):
    return send(APIClient(), "post", f"auth/providers/{slug}/callback/", body)


FLOWS = {
    "code_from_another_browser": lambda mine, other: {**other, "flow": mine["flow"]},
    "state_of_another_flow": lambda mine, other: {**mine, "state": other["state"]},
    "invented_state": lambda mine, other: {**mine, "state": "invented"},
    "invented_flow": lambda mine, other: {**mine, "flow": "invented"},
    "state_as_flow": lambda mine, other: {**mine, "flow": mine["state"]},
    "invented_code": lambda mine, other: {**mine, "code": "invented"},
    "code_of_another_flow": lambda mine, other: {**mine, "code": other["code"]},
    "empty_flow": lambda mine, other: {**mine, "flow": ""},
    "without_flow": lambda mine, other: {name: mine[name] for name in ("code", "state")},
    "flow_that_is_a_list": lambda mine, other: {**mine, "flow": [mine["flow"]]},
}


@pytest.mark.parametrize("attack", FLOWS)
def test_code_is_refused(attack, provider, begin):
    bodies = []
    for _ in range(2):
        started = begin()
        sent = provider.code(started["authorization_url"])
        bodies.append({**sent, "flow": started["flow"]})
    answer = finish(FLOWS[attack](*bodies))
    assert answer.status_code == 400, answer.json()
    assert_nothing_happened()


NONCES = {"wrong": "other", "missing": None, "number": 17}


@pytest.mark.parametrize("nonce", NONCES.values(), ids=NONCES)
def test_wrong_nonce_is_refused(nonce, provider, begin):
    started = begin()
    sent = provider.code(started["authorization_url"], nonce=nonce)
    assert finish({**sent, "flow": started["flow"]}).status_code == 400
    assert_nothing_happened()


def test_wrong_hash_of_the_access_token_is_refused(provider, begin):
    started = begin()
    sent = provider.code(started["authorization_url"], at_hash="AAAA")
    assert finish({**sent, "flow": started["flow"]}).status_code == 400
    assert_nothing_happened()


def test_finished_flow_is_refused(provider, begin):
    started = begin()
    body = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    assert finish(body).status_code == 200
    provider.codes[body["code"]] = ("17", {}, "", FRONT_END)
    assert finish(body).status_code == 400


def test_flow_of_another_provider_is_refused(provider, begin, configure, settings):
    started = begin()
    both = settings.MYOMETRICS_AUTH["IDENTITY_PROVIDERS"]
    both["clinic"] = dict(both["hospital"])
    body = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    assert finish(body, "clinic").status_code == 400
    assert_nothing_happened()


def test_unknown_provider_is_a_404(configure):
    assert finish({}, "unknown").status_code == 404


# --- providers that misbehave

LARGE = b'{"keys": [' + b" " * (1024 * 1024) + b"]}"

MISBEHAVIOUR = {
    "discovery_names_another_issuer": (
        "/.well-known/openid-configuration",
        lambda h: respond(h, 200, {"issuer": "https://other.example", "jwks_uri": "https://x"}),
    ),
    "discovery_redirects": (
        "/.well-known/openid-configuration",
        lambda h: respond(h, 302, {}, Location="/other"),
    ),
    "discovery_is_missing": (
        "/.well-known/openid-configuration",
        lambda h: respond(h, 404, {}),
    ),
    "discovery_is_a_list": (
        "/.well-known/openid-configuration",
        lambda h: respond(h, 200, [1]),
    ),
    "keys_elsewhere_over_http": (
        "/.well-known/openid-configuration",
        lambda h: respond(
            h,
            200,
            {
                "issuer": f"http://{h.headers['Host']}",
                "jwks_uri": "http://keys.example/jwks",
            },
        ),
    ),
    "keys_in_a_file": (
        "/.well-known/openid-configuration",
        lambda h: respond(
            h,
            200,
            {"issuer": f"http://{h.headers['Host']}", "jwks_uri": "file:///etc/passwd"},
        ),
    ),
    "keys_are_huge": ("/jwks", lambda h: respond(h, 200, LARGE)),
    "keys_redirect": ("/jwks", lambda h: respond(h, 307, {}, Location="/other")),
    "keys_are_no_json": ("/jwks", lambda h: respond(h, 200, b"<html>")),
    "keys_are_nested_deeply": ("/jwks", lambda h: respond(h, 200, b"[" * 100_000)),
    "keys_fail": ("/jwks", lambda h: respond(h, 500, {})),
    "keys_break_off": ("/jwks", lambda h: h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-")),
}


@pytest.mark.parametrize("case", MISBEHAVIOUR)
def test_misbehaving_provider_is_a_503(case, provider, exchange):
    path, answer_of = MISBEHAVIOUR[case]

    def closing(handler):
        answer_of(handler)
        handler.close_connection = True

    provider.answers[path] = closing
    answer = exchange(provider.id_token())
    assert answer.status_code == 503, answer.json()
    assert answer.json()["code"] == "identity_provider_unavailable"
    assert int(answer["Retry-After"]) > 0
    assert provider.calls["/other"] == 0
    assert_nothing_happened()


TRICKLES = {
    "headers": (b"", b"X-A: b\r\n"),
    "body": (b"Content-Length: 1000000\r\n\r\n", b" "),
    "size_of_a_chunk": (b"Transfer-Encoding: chunked\r\n\r\n5;", b"x"),
}


@pytest.mark.parametrize("case", TRICKLES)
def test_trickling_provider_is_given_up(case, provider, exchange, monkeypatch):
    endpoint(get_provider("hospital"), "jwks_uri")  # before, so that discovery has its time
    # Long enough for the request to arrive on a machine under load.
    monkeypatch.setattr("myometrics_auth.federation.provider_requests.TOTAL_SECONDS", 2.0)
    begin, rest = TRICKLES[case]
    is_given_up = threading.Event()

    def trickle(handler):
        try:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + begin)
            for _ in range(1000):
                handler.wfile.write(rest)
                handler.wfile.flush()
                time.sleep(0.05)
        except OSError:
            is_given_up.set()
        handler.close_connection = True

    provider.answers["/jwks"] = trickle
    assert exchange(provider.id_token()).status_code == 503
    assert is_given_up.wait(60)
    assert_nothing_happened()


def test_slow_connection_is_given_up(provider, exchange, monkeypatch):
    monkeypatch.setattr("myometrics_auth.federation.provider_requests.TOTAL_SECONDS", 0.1)
    connect = HTTPConnection.connect

    def slow_connect(connection):
        time.sleep(0.3)
        connect(connection)

    monkeypatch.setattr(HTTPConnection, "connect", slow_connect)
    assert exchange(provider.id_token()).status_code == 503
    assert not provider.forms


def test_response_that_breaks_off_is_a_503(provider, configure, bearer):
    configure(access_tokens="introspection")

    def break_off(handler):
        handler.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"active": ')
        handler.close_connection = True

    provider.answers["/introspect"] = break_off
    answer = bearer(provider.opaque_token()).get("/api/auth/user/")
    assert answer.status_code == 503


def test_short_rsa_key_is_not_used(provider, exchange):
    provider.keys["weak"] = RSAKey.generate_key(1024, {"kid": "weak", "use": "sig"})
    provider.published.append("weak")
    assert exchange(provider.id_token(options={"key": "weak"})).status_code == 401
    assert_nothing_happened()


@pytest.mark.parametrize("kty", [["RSA"], {}, None, 17], ids=str)
def test_malformed_key_does_not_spoil_the_others(kty, provider, exchange):
    keys = [{"kty": kty, "kid": "odd"}, *provider.key_set()["keys"]]
    provider.answers["/jwks"] = lambda handler: respond(handler, 200, {"keys": keys})
    assert exchange(provider.id_token()).status_code == 200


def test_encryption_key_does_not_verify(provider, exchange):
    provider.keys["enc"] = ECKey.generate_key("P-256", {"kid": "enc", "use": "enc"})
    provider.published.append("enc")
    other = ECKey.import_key({**provider.keys["enc"].as_dict(private=True), "use": "sig"})
    assert exchange(provider.id_token(options={"key": other})).status_code == 401
    assert_nothing_happened()
