"""The code flow, linking and unlinking, links by mail, and logout by the provider."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit

import pytest
from conftest import NEW_PASSWORD, PASSWORD, enrol, later, query_of, send
from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.db.models.signals import post_save
from rest_framework.test import APIClient

from myometrics_auth.federation.jobs import SweepFederation
from myometrics_auth.federation.models import ErasedIdentity, Identity, LinkRequest, SignInFlow
from myometrics_auth.models import RecoveryCode, Session, TotpDevice
from myometrics_core.jobs import run_jobs
from myometrics_core.times import utc_now
from myometrics_testing.oidc_provider import CLIENT_ID, CLIENT_SECRET, respond

pytestmark = pytest.mark.django_db

FRONT_END = "https://clinic.example/callback?next=%2Fhome"
PROFILE = "/api/auth/user/"
IDENTITIES = "/api/auth/identities/"


@pytest.fixture
def begin(configure):
    def begin_at(redirect_uri=FRONT_END, **options):
        body = {"redirect_uri": redirect_uri, **options}
        answer = send(APIClient(), "post", "auth/providers/hospital/authorize/", body)
        assert answer.status_code == 200, answer.json()
        return answer.json()

    return begin_at


def finish(body):
    return send(APIClient(), "post", "auth/providers/hospital/callback/", body)


def client_of(tokens):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens['access']}")
    return client


# --- providers and the code flow


def test_providers_are_listed_for_anonymous_users(configure, api):
    configure(name="The hospital")
    answer = api.get("/api/auth/providers/")
    assert answer.json() == [{"slug": "hospital", "name": "The hospital"}]


def test_no_provider_is_an_empty_list(api):
    assert api.get("/api/auth/providers/").json() == []


def test_provider_list_is_limited_by_itself(configure, api, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": {"auth": "1/hour"}}
    statuses = [api.get("/api/auth/providers/").status_code for _ in range(101)]
    assert statuses == [200] * 100 + [429]


def test_provider_list_reads_no_large_body(configure, api):
    answer = api.generic("GET", "/api/auth/providers/", "x" * 17_000, "application/json")
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_authorization_url_asks_for_a_code_with_pkce(provider, begin):
    started = begin()
    url = urlsplit(started["authorization_url"])
    assert f"{url.scheme}://{url.netloc}{url.path}" == f"{provider.issuer}/authorize"
    asked = dict(parse_qsl(url.query))
    assert asked.pop("state")
    assert asked.pop("nonce")
    assert asked.pop("code_challenge")
    assert asked == {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": FRONT_END,
        "scope": "openid email profile",
        "code_challenge_method": "S256",
    }
    assert started["flow"] not in started["authorization_url"]


def test_reauthentication_asks_the_provider_for_a_new_sign_in(begin):
    url = begin(reauthenticate=True)["authorization_url"]
    asked = dict(parse_qsl(urlsplit(url).query))
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")


@pytest.mark.parametrize("ahead", [0, 30])
def test_new_sign_in_at_the_provider_is_recent(provider, begin, settings, ahead):
    settings.MYOMETRICS_AUTH = {**settings.MYOMETRICS_AUTH, "REAUTHENTICATE_FOR": ["export"]}
    started = begin(reauthenticate=True)
    code = provider.code(started["authorization_url"], auth_time=int(time.time()) + ahead)
    answer = finish({**code, "flow": started["flow"]})
    assert answer.status_code == 200, answer.json()
    assert client_of(answer.json()).get("/api/users/me/export/").status_code == 200
    assert Session.objects.get().reauthenticated_at <= utc_now()


@pytest.mark.parametrize(
    "auth_time",
    [
        pytest.param(lambda: None, id="none"),
        pytest.param(lambda: int(time.time()) - 120, id="before the request"),
        pytest.param(lambda: int(time.time()) + 600, id="in the future"),
        pytest.param(lambda: 0, id="zero"),
        pytest.param(lambda: True, id="boolean"),
        pytest.param(lambda: str(int(time.time())), id="text"),
    ],
)
def test_earlier_sign_in_at_the_provider_is_no_reauthentication(provider, begin, auth_time):
    started = begin(reauthenticate=True)
    url = started["authorization_url"].replace("&prompt=login&max_age=0", "")
    answer = finish({**provider.code(url, auth_time=auth_time()), "flow": started["flow"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert not Session.objects.exists()
    assert not Identity.objects.exists()
    assert not SignInFlow.objects.exists()


def test_code_of_another_flow_is_no_reauthentication(provider, begin):
    asked, other = begin(reauthenticate=True), begin()
    code = provider.code(other["authorization_url"])
    answer = finish({**code, "flow": asked["flow"]})
    assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["state"])


@pytest.mark.parametrize("value", ["true", 1, None])
def test_reauthenticate_is_a_boolean(configure, api, value):
    configure()
    body = {"redirect_uri": FRONT_END, "reauthenticate": value}
    answer = send(api, "post", "auth/providers/hospital/authorize/", body)
    assert (answer.status_code, list(answer.json()["field_errors"])) == (400, ["reauthenticate"])


def test_secrets_of_a_flow_are_stored_as_hashes(begin):
    started = begin()
    asked = dict(parse_qsl(urlsplit(started["authorization_url"]).query))
    row = str(SignInFlow.objects.values().get())
    assert started["flow"] not in row
    assert asked["state"] not in row
    assert asked["nonce"] not in row


def test_callback_signs_in_as_login_does(provider, begin):
    started = begin()
    answer = finish({**provider.code(started["authorization_url"]), "flow": started["flow"]})
    assert answer.status_code == 200, answer.json()
    assert client_of(answer.json()).get(PROFILE).json()["email"] == "ada@clinic.example"
    assert Session.objects.get().expires_at > utc_now() + timedelta(days=6)
    sent = dict(provider.headers)["/token"]
    assert sent["Authorization"].startswith("Basic ")
    assert not SignInFlow.objects.exists()


def test_client_that_must_post_its_secret_posts_it(provider, begin):
    provider.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post"]
    started = begin()
    body = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    assert finish(body).status_code == 200
    form = dict(provider.forms)["/token"]
    assert (form["client_id"], form["client_secret"]) == (CLIENT_ID, CLIENT_SECRET)


def test_secret_that_became_unreadable_fails_only_where_it_is_used(
    provider, configure, exchange, begin, tmp_path, api
):
    secret = tmp_path / "secret"
    secret.write_text(CLIENT_SECRET)
    configure(client_secret=None, client_secret_file=str(secret))
    started = begin()
    secret.unlink()
    body = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    answer = finish(body)
    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    assert api.get("/api/auth/providers/").status_code == 200
    assert exchange(provider.id_token()).status_code == 200


def test_flow_expires_after_ten_minutes(provider, begin):
    started = begin()
    body = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    with later(minutes=10, seconds=1):
        assert finish(body).status_code == 400


def test_origin_of_cors_is_a_front_end(begin, settings):
    settings.CORS_ALLOWED_ORIGINS = ["http://localhost:3000"]
    assert begin("http://localhost:3000/api/auth/callback")["flow"]


def test_refused_client_is_a_503(provider, begin):
    started = begin()
    body = {**provider.code(started["authorization_url"]), "flow": started["flow"]}
    provider.answers["/token"] = lambda h: respond(h, 401, {"error": "invalid_client"})
    assert finish(body).status_code == 503


# --- identities of the signed-in user


def link(client, token, provider="hospital"):
    return send(client, "post", "auth/identities/", {"provider": provider, "id_token": token})


def test_signed_in_user_links_an_identity(configure, provider, doctor, sign_in, published):
    client = sign_in(doctor)
    answer = link(client, provider.id_token(email="private@home.example"))
    assert answer.status_code == 201, answer.json()
    listed = client.get(IDENTITIES).json()
    assert listed == [answer.json()]
    assert listed[0]["provider"] == "hospital"
    assert listed[0]["email"] == "private@home.example"
    assert "identity_linked" in [event.action for event in published]
    doctor.refresh_from_db()
    assert doctor.verified_at is None


def test_link_needs_a_recent_sign_in(configure, provider, doctor, sign_in):
    client, token = sign_in(doctor), provider.id_token()
    Session.objects.update(created_at=utc_now() - timedelta(minutes=11))
    answer = link(client, token)
    assert (answer.status_code, answer.json()["code"]) == (403, "reauthentication_required")
    assert not Identity.objects.exists()
    assert send(client, "post", "auth/reauthenticate/", {"password": PASSWORD}).status_code == 200
    assert link(client, token).status_code == 201


def test_linking_the_own_verified_address_verifies_it(configure, provider, doctor, sign_in):
    link(sign_in(doctor), provider.id_token(email=doctor.email))
    doctor.refresh_from_db()
    assert doctor.verified_at is not None


def test_linked_identity_signs_in(exchange, provider, doctor, sign_in):
    link(sign_in(doctor), provider.id_token(email=None))
    assert exchange(provider.id_token(email=None)).json()["user"]["email"] == doctor.email


def test_id_token_links_once(configure, provider, doctor, sign_in, exchange):
    token = provider.id_token()
    assert link(sign_in(doctor), token).status_code == 201
    assert exchange(token).status_code == 401


def test_used_id_token_links_nothing(provider, exchange, doctor, sign_in):
    token = provider.id_token()
    exchange(token)
    Identity.objects.all().delete()
    answer = link(sign_in(doctor), token)
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["id_token"]


def test_identity_belongs_to_one_account(provider, exchange, doctor, sign_in):
    exchange(provider.id_token())
    answer = link(sign_in(doctor), provider.id_token())
    assert (answer.status_code, answer.json()["code"]) == (409, "identity_linked")


@pytest.fixture
def _colliding_site():
    def collide(**kwargs):
        raise IntegrityError("a column of the site")

    post_save.connect(collide, sender=Identity)
    yield
    post_save.disconnect(collide, sender=Identity)


@pytest.mark.usefixtures("_colliding_site")
def test_collision_of_the_site_is_no_linked_identity(configure, provider, doctor, sign_in):
    with pytest.raises(IntegrityError, match="of the site"):
        link(sign_in(doctor), provider.id_token())


@pytest.mark.parametrize("token", ["", "nonsense", None, 17])
def test_wrong_id_token_is_a_400(token, configure, doctor, sign_in):
    answer = link(sign_in(doctor), token)
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["id_token"]


def test_unknown_provider_is_a_400(configure, provider, doctor, sign_in):
    answer = link(sign_in(doctor), provider.id_token(), provider="unknown")
    assert answer.status_code == 400
    assert list(answer.json()["field_errors"]) == ["provider"]


def test_tenant_that_is_not_allowed_is_not_linked(configure, provider, doctor, sign_in):
    configure(required_claims={"hd": ["clinic.example"]})
    assert link(sign_in(doctor), provider.id_token()).status_code == 403
    assert not Identity.objects.exists()


def test_identities_need_a_token(configure, api):
    assert api.get(IDENTITIES).status_code == 401
    assert link(api, "x").status_code == 401


def test_unlinked_identity_signs_in_no_more(configure, provider, exchange, doctor, sign_in):
    client = sign_in(doctor)
    identity = link(client, provider.id_token(email=None)).json()["id"]
    foreign = client_of(exchange(provider.id_token(email=None)).json())
    assert client.delete(f"{IDENTITIES}{identity}/").status_code == 204
    assert foreign.get(PROFILE).status_code == 401
    assert client.get(PROFILE).status_code == 200
    assert exchange(provider.id_token(email=None)).status_code == 403


def test_last_way_to_sign_in_is_not_unlinked(provider, exchange, mailoutbox):
    client = client_of(exchange(provider.id_token()).json())
    (identity,) = client.get(IDENTITIES).json()
    answer = client.delete(f"{IDENTITIES}{identity['id']}/")
    assert (answer.status_code, answer.json()["code"]) == (409, "last_way_in")
    # A password by the reset mail is another way.
    send(APIClient(), "post", "auth/password-reset/", {"email": "ada@clinic.example"})
    run_jobs("myometrics_auth.send_password_reset")
    query = query_of(re.search(r"https://\S+", mailoutbox[-1].body).group())
    body = {"uid": query["uid"], "token": query["token"], "new_password": PASSWORD}
    confirmed = send(APIClient(), "post", "auth/password-reset/confirm/", body)
    assert confirmed.status_code == 200, confirmed.json()
    client = client_of(exchange(provider.id_token()).json())
    assert client.delete(f"{IDENTITIES}{identity['id']}/").status_code == 204


def test_one_of_two_identities_is_unlinked(provider, exchange):
    client = client_of(exchange(provider.id_token("17")).json())
    link(client, provider.id_token("18"))
    first, _second = client.get(IDENTITIES).json()
    assert client.delete(f"{IDENTITIES}{first['id']}/").status_code == 204


@pytest.mark.parametrize("key", ["0", "999999999999999999999", "17"])
def test_identity_that_does_not_exist_is_a_404(key, configure, doctor, sign_in):
    assert sign_in(doctor).delete(f"{IDENTITIES}{key}/").status_code == 404


def test_identity_of_another_user_is_a_404(provider, exchange, doctor, sign_in):
    exchange(provider.id_token())
    answer = sign_in(doctor).delete(f"{IDENTITIES}{Identity.objects.get().pk}/")
    assert answer.status_code == 404
    assert Identity.objects.count() == 1


# --- links by mail


@pytest.fixture
def mailed(provider, exchange, mailoutbox):
    """Signs in with an address whose account is not linked; returns the mailed link."""

    def mail(**claims):
        answer = exchange(provider.id_token(**claims))
        assert (answer.status_code, answer.json()["code"]) == (403, "identity_not_linked")
        run_jobs("myometrics_auth.send_link_mail")
        if not mailoutbox:
            return None
        link = re.search(r"http\S+", mailoutbox[-1].body).group()
        return link.partition("//")[2].partition("/")[2]

    return mail


@pytest.fixture
def unverified(make_user):
    return make_user("ada@clinic.example")


def test_mailed_page_links_only_by_post(mailed, unverified, provider, exchange, api):
    page = "/" + mailed()
    assert "<form" in api.get(page).content.decode()
    assert not Identity.objects.exists()
    answer = api.post(page)
    assert answer.status_code == 200
    assert "<form" not in answer.content.decode()
    assert answer["Cache-Control"] == "private, no-store"
    assert exchange(provider.id_token()).json()["user"]["email"] == unverified.email


def test_mail_holds_no_text_of_the_token(mailed, unverified, mailoutbox):
    mailed(given_name="Buy now http://spam.example")
    assert "spam" not in mailoutbox[0].body
    assert mailoutbox[0].to == [unverified.email]


def test_mailed_link_takes_over_an_unverified_account(mailed, unverified, sign_in, api, published):
    client = sign_in(unverified)
    enrol(client)
    api.post("/" + mailed())
    assert [event.action for event in published][-2:] == ["email_verified", "identity_linked"]
    assert client.get(PROFILE).status_code == 401
    unverified.refresh_from_db()
    assert not unverified.has_usable_password()
    assert unverified.verified_at is not None
    assert not TotpDevice.objects.exists()
    assert not RecoveryCode.objects.exists()


def test_mailed_link_removes_identities_of_an_unverified_account(
    mailed, unverified, sign_in, provider, exchange, api
):
    link(sign_in(unverified), provider.id_token("18", email="attacker@evil.example"))
    Identity.objects.update(issuer="https://other.example")  # so that the mail is not for it
    api.post("/" + mailed())
    assert list(Identity.objects.values_list("subject", flat=True)) == ["17"]


def test_reset_of_an_unverified_account_removes_identities(
    provider, exchange, api, make_user, sign_in, mailoutbox
):
    victim = make_user("victim@clinic.example", self_registered=True)
    link(sign_in(victim), provider.id_token(email="attacker@evil.example"))
    attacker = client_of(exchange(provider.id_token(email=None)).json())
    send(api, "post", "auth/password-reset/", {"email": victim.email})
    run_jobs("myometrics_auth.send_password_reset")
    query = query_of(re.search(r"https://\S+", mailoutbox[-1].body).group())
    body = {"uid": query["uid"], "token": query["token"], "new_password": NEW_PASSWORD}
    assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 200
    assert not Identity.objects.exists()
    assert attacker.get(PROFILE).status_code == 401


def test_mailed_link_keeps_a_verified_account(mailed, make_user, sign_in, configure, api):
    ada = make_user("ada@clinic.example", verified_at=utc_now())
    client = sign_in(ada)
    configure(provisioning="linked")
    assert api.post("/" + mailed()).status_code == 200
    assert client.get(PROFILE).status_code == 200
    ada.refresh_from_db()
    assert ada.has_usable_password()


def test_mailed_link_works_once(mailed, unverified, api):
    page = "/" + mailed()
    assert [api.post(page).status_code for _ in range(2)] == [200, 404]
    assert Identity.objects.count() == 1


@pytest.mark.usefixtures("_colliding_site")
def test_mailed_link_stays_valid_if_the_site_collides(mailed, unverified, api):
    with pytest.raises(IntegrityError, match="of the site"):
        api.post("/" + mailed())
    assert LinkRequest.objects.count() == 1


def test_mailed_link_expires_after_a_day(mailed, unverified, api):
    page = "/" + mailed()
    with later(days=1, seconds=1):
        assert api.post(page).status_code == 404


def test_mailed_link_is_void_after_a_change_of_address(mailed, unverified, api):
    page = "/" + mailed()
    get_user_model().objects.update(email="other@clinic.example")
    assert api.post(page).status_code == 404


def test_link_is_not_mailed_after_a_change_of_address(unverified, provider, exchange, mailoutbox):
    assert exchange(provider.id_token()).status_code == 403
    get_user_model().objects.update(email="other@clinic.example")
    run_jobs("myometrics_auth.send_link_mail")
    assert not mailoutbox


@pytest.mark.parametrize("token", ["", "x", "a.b", "0" * 300, "%00", "é.é"])
def test_invented_link_is_an_html_error(token, configure, api):
    answer = api.post(f"{IDENTITIES}link/?token={token}")
    assert answer.status_code in {400, 404}
    assert answer["Content-Type"].startswith("text/html")


def test_one_mail_an_hour(mailed, unverified, mailoutbox):
    for _ in range(3):
        mailed()
    assert len(mailoutbox) == 1
    with later(minutes=61):
        mailed()
    assert len(mailoutbox) == 2


@pytest.mark.parametrize(
    ("keys", "claims"), [({}, {"email_verified": False}), ({"trust_email": False}, {})]
)
def test_no_mail_for_an_address_without_proof(
    keys, claims, mailed, unverified, configure, mailoutbox
):
    configure(**keys)
    assert mailed(**claims) is None


# --- logout by the provider


@pytest.fixture
def form_post(configure):
    def post(token):
        return APIClient().generic(
            "POST",
            "/api/auth/providers/hospital/logout/",
            f"logout_token={token}",
            content_type="application/x-www-form-urlencoded",
        )

    return post


def test_logout_of_a_subject_ends_its_sessions(provider, exchange, form_post, published):
    mine = client_of(exchange(provider.id_token("17")).json())
    other = client_of(exchange(provider.id_token("18", email="b@clinic.example")).json())
    answer = form_post(provider.logout_token(sub="17"))
    assert answer.status_code == 200, answer.json()
    assert mine.get(PROFILE).status_code == 401
    assert other.get(PROFILE).status_code == 200
    assert [event.action for event in published].count("logout") == 1


def test_logout_of_a_sid_ends_only_its_session(provider, exchange, form_post):
    tokens = [exchange(provider.id_token(sid=sid)).json() for sid in ("a", "b")]
    one, two = map(client_of, tokens)
    assert form_post(provider.logout_token(sub=None, sid="a")).status_code == 200
    assert one.get(PROFILE).status_code == 401
    assert two.get(PROFILE).status_code == 200


def test_logout_ends_bearers(provider, configure, bearer, form_post):
    configure(access_tokens="introspection")
    client = bearer(provider.opaque_token())
    assert client.get(PROFILE).status_code == 200
    assert form_post(provider.logout_token(sub="17", sid="a")).status_code == 200
    assert client.get(PROFILE).status_code == 401


def test_logout_of_an_unknown_subject_is_a_200(provider, configure, form_post):
    assert form_post(provider.logout_token(sub="unknown")).status_code == 200


def test_logout_token_works_once(provider, configure, form_post):
    token = provider.logout_token()
    assert [form_post(token).status_code for _ in range(2)] == [200, 400]


LOGOUTS = {
    "id_token": lambda p: p.id_token(),
    "with_nonce": lambda p: p.logout_token(nonce="x"),
    "without_event": lambda p: p.logout_token(events=None),
    "other_event": lambda p: p.logout_token(events={"http://other": {}}),
    "event_that_is_no_object": lambda p: p.logout_token(
        events={"http://schemas.openid.net/event/backchannel-logout": True}
    ),
    "without_sid_and_sub": lambda p: p.logout_token(sub=None),
    "without_jti": lambda p: p.logout_token(jti=None),
    "other_audience": lambda p: p.logout_token(aud="other"),
    "other_issuer": lambda p: p.logout_token(iss="https://other.example"),
    "expired": lambda p: p.logout_token(exp=int(time.time()) - 1),
    "old_without_expiry": lambda p: p.logout_token(exp=None, iat=int(time.time()) - 700),
    "typ_of_an_access_token": lambda p: p.logout_token(options={"typ": "at+jwt"}),
    "nonsense": lambda p: "nonsense",
    "empty": lambda p: "",
}


@pytest.mark.parametrize("attack", LOGOUTS)
def test_forged_logout_token_ends_nothing(attack, provider, exchange, form_post):
    client = client_of(exchange(provider.id_token()).json())
    answer = form_post(LOGOUTS[attack](provider))
    assert answer.status_code == 400, answer.json()
    assert list(answer.json()["field_errors"]) == ["logout_token"]
    assert client.get(PROFILE).status_code == 200


def test_logout_token_in_json_is_a_415(provider, configure):
    body = {"logout_token": provider.logout_token()}
    assert send(APIClient(), "post", "auth/providers/hospital/logout/", body).status_code == 415


# --- erasure and the sweep


def test_erasure_keeps_only_a_keyed_hash_for_a_day(provider, exchange):
    client = client_of(exchange(provider.id_token("subject-17")).json())
    assert client.delete("/api/users/me/").status_code == 204
    row = str(ErasedIdentity.objects.values().get())
    assert "subject-17" not in row
    assert provider.issuer not in row
    with later(hours=24, minutes=1):
        SweepFederation().run(None)
    assert not ErasedIdentity.objects.exists()


def test_sweep_deletes_what_has_expired(provider, begin, mailed, unverified):
    begin()
    mailed()
    SweepFederation().run(None)
    assert SignInFlow.objects.exists()
    assert LinkRequest.objects.exists()
    with later(days=2):
        SweepFederation().run(None)
    assert not SignInFlow.objects.exists()
    assert not LinkRequest.objects.exists()
