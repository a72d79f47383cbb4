"""Access tokens of a provider in place of ours."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from conftest import enrol, later, send, sign_out
from django.contrib.auth import get_user_model
from rest_framework.test import APIClient

from myometrics_auth.federation.bearers import foreign_tokens_sweep
from myometrics_auth.federation.models import ForeignToken, Identity
from myometrics_auth.models import Session
from myometrics_core.health import HealthReport
from myometrics_core.times import utc_now
from myometrics_testing.oidc_provider import CLIENT_ID

pytestmark = pytest.mark.django_db

PROFILE = "/api/auth/user/"
CHROME = {"HTTP_USER_AGENT": "Chrome"}


@pytest.fixture(params=["jwt", "introspection", "tokeninfo"])
def kind(request, configure, provider):
    """Every way to validate an access token."""
    use(request.param, configure, provider)
    return request.param


def use(kind, configure, provider, **keys):
    if kind == "tokeninfo":
        keys["tokeninfo_endpoint"] = f"{provider.issuer}/tokeninfo"
    configure(access_tokens=kind, **keys)


def make(provider, kind, subject="17", **claims):
    maker = {
        "jwt": provider.access_token,
        "introspection": provider.opaque_token,
        "tokeninfo": provider.google_token,
    }[kind]
    return maker(subject, **claims)


def validations(provider):
    return provider.calls["/introspect"] + provider.calls["/tokeninfo"]


@pytest.fixture
def google(configure, provider):
    use("tokeninfo", configure, provider)
    return provider


def test_bearer_signs_in_and_creates_the_account(kind, provider, bearer):
    provider.userinfo["17"] = {"given_name": "Ada", "family_name": "Lovelace"}
    answer = bearer(make(provider, kind)).get(PROFILE)
    assert answer.status_code == 200, answer.json()
    assert answer.json()["email"] == "ada@clinic.example"
    assert answer.json()["firstName"] == "Ada"
    assert provider.calls["/userinfo"] == 1


def test_known_bearer_costs_one_query_and_no_call(
    kind, provider, bearer, django_assert_num_queries
):
    client = bearer(make(provider, kind))
    assert client.get(PROFILE).status_code == 200
    calls = sum(provider.calls.values())
    with django_assert_num_queries(1):
        assert client.get(PROFILE).status_code == 200
    assert sum(provider.calls.values()) == calls
    assert validations(provider) <= 1


def test_bearer_is_stored_as_a_hash(google, bearer):
    token = google.google_token()
    bearer(token).get(PROFILE)
    for row in ForeignToken.objects.values():
        assert token not in str(row)


def test_bearers_of_a_device_share_a_session(google, bearer):
    tokens = [google.google_token() for _ in range(3)]
    clients = [bearer(token, **CHROME) for token in tokens]
    assert {client.get(PROFILE, **CHROME).status_code for client in clients} == {200}
    assert Session.objects.count() == 1
    assert {client.get(PROFILE, **CHROME).status_code for client in clients} == {200}


def test_bearers_of_other_devices_have_their_own_sessions(google, bearer):
    for agent in ("Chrome", "Firefox"):
        bearer(google.google_token()).get(PROFILE, HTTP_USER_AGENT=agent)
    assert Session.objects.count() == 2


def test_bearer_is_listed_and_ended_as_a_session(google, bearer):
    client = bearer(google.google_token())
    listed = client.get("/api/auth/sessions/").json()["results"]
    assert [row["current"] for row in listed] == [True]
    assert client.delete(f"/api/auth/sessions/{listed[0]['id']}/").status_code == 204
    answer = client.get(PROFILE)
    assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
    assert google.calls["/tokeninfo"] == 1


def test_logout_with_a_bearer_needs_no_body(google, bearer):
    client = bearer(google.google_token())
    assert client.get(PROFILE).status_code == 200
    assert send(client, "post", "auth/logout/", {}).status_code == 200
    assert client.get(PROFILE).status_code == 401
    assert not Session.objects.live().exists()


def test_ended_bearer_is_not_exchanged(google, bearer, exchange, configure):
    use("tokeninfo", configure, google)
    token = google.google_token()
    client = bearer(token)
    client.get(PROFILE)
    send(client, "post", "auth/logout/", {})
    assert exchange(token, kind="access_token").status_code == 401


OVER = {
    "idle": ({"FEDERATED_BEARER_LIFETIME": timedelta(hours=3)}, 31),
    "idle_by_the_setting": ({"SESSION_IDLE_TIMEOUT": timedelta(minutes=10)}, 11),
    "after_its_lifetime": ({"FEDERATED_BEARER_LIFETIME": timedelta(minutes=10)}, 11),
}


@pytest.mark.parametrize("case", OVER)
def test_bearer_that_is_over_is_not_exchanged(case, google, bearer, exchange, configure):
    limits, minutes = OVER[case]
    use("tokeninfo", configure, google, auth=limits)
    token = google.google_token()
    client = bearer(token)
    assert client.get(PROFILE).status_code == 200
    assert exchange(token, kind="access_token").status_code == 200
    with later(minutes=minutes):
        assert client.get(PROFILE).status_code == 401
        answer = exchange(token, kind="access_token")
        assert (answer.status_code, answer.json()["code"]) == (401, "token_not_valid")
        assert exchange(google.google_token(), kind="access_token").status_code == 200


def test_ended_bearer_stays_refused_after_the_session_is_swept(google, bearer):
    client = bearer(google.google_token())
    client.get(PROFILE)
    Session.objects.all().delete()
    assert client.get(PROFILE).status_code == 401
    assert google.calls["/tokeninfo"] == 1


def test_bearer_expires_with_its_token(kind, provider, bearer):
    client = bearer(make(provider, kind))
    assert client.get(PROFILE).status_code == 200
    with later(hours=1, seconds=1):
        assert client.get(PROFILE).status_code == 401


def test_older_token_expires_while_the_shared_session_goes_on(google, bearer):
    old = bearer(google.google_token(expires_in="600"))
    new = bearer(google.google_token())
    assert {client.get(PROFILE).status_code for client in (old, new)} == {200}
    with later(minutes=20):
        assert old.get(PROFILE).status_code == 401
        assert new.get(PROFILE).status_code == 200


def test_bearer_lifetime_extends_a_token_that_is_in_use(google, bearer, configure):
    lifetime = {"FEDERATED_BEARER_LIFETIME": timedelta(hours=3)}
    use("tokeninfo", configure, google, auth=lifetime)
    client = bearer(google.google_token())
    assert client.get(PROFILE).status_code == 200
    for minutes in (29, 58, 87, 116):
        with later(minutes=minutes):
            assert client.get(PROFILE).status_code == 200
    with later(hours=3, minutes=1):
        assert client.get(PROFILE).status_code == 401


def test_bearer_with_a_lifetime_ends_when_idle(google, bearer, configure):
    lifetime = {"FEDERATED_BEARER_LIFETIME": timedelta(hours=3)}
    use("tokeninfo", configure, google, auth=lifetime)
    client = bearer(google.google_token())
    assert client.get(PROFILE).status_code == 200
    with later(minutes=31):
        assert client.get(PROFILE).status_code == 401
        # A new token does not revive the old one.
        assert bearer(google.google_token()).get(PROFILE).status_code == 200
        assert client.get(PROFILE).status_code == 401


def test_deactivated_user_is_refused_at_once(kind, provider, bearer):
    client = bearer(make(provider, kind))
    assert client.get(PROFILE).status_code == 200
    get_user_model().objects.update(is_active=False)
    assert client.get(PROFILE).status_code == 401
    assert bearer(make(provider, kind)).get(PROFILE).status_code == 401


def test_wrong_token_is_remembered_for_a_minute(google, bearer):
    client = bearer("ya29.wrong")
    for _ in range(3):
        assert client.get(PROFILE).status_code == 401
    assert google.calls["/tokeninfo"] == 1
    with later(minutes=1, seconds=1):
        assert client.get(PROFILE).status_code == 401
    assert google.calls["/tokeninfo"] == 2


def test_refusal_is_remembered_with_its_code(google, bearer):
    client = bearer(google.google_token(email_verified="false"))
    for _ in range(2):
        answer = client.get(PROFILE)
        assert (answer.status_code, answer.json()["code"]) == (403, "email_not_verified")
    assert google.calls["/tokeninfo"] == 1
    assert not get_user_model().objects.exists()


def test_known_tokens_go_on_while_the_provider_is_down(google, bearer):
    client = bearer(google.google_token())
    assert client.get(PROFILE).status_code == 200
    unseen = google.google_token()
    google.answers["/tokeninfo"] = lambda handler: handler.connection.close()
    assert client.get(PROFILE).status_code == 200
    answer = bearer(unseen).get(PROFILE)
    assert (answer.status_code, answer.json()["code"]) == (503, "identity_provider_unavailable")
    assert answer["Retry-After"]
    google.answers.clear()
    assert bearer(unseen).get(PROFILE).status_code == 200


def test_thirty_new_tokens_a_minute_per_address(google, bearer):
    known = bearer(google.google_token())
    assert known.get(PROFILE).status_code == 200
    statuses = [bearer(f"ya29.wrong{number}").get(PROFILE).status_code for number in range(30)]
    assert statuses == [401] * 29 + [429]
    answer = bearer(google.google_token()).get(PROFILE)
    assert answer.status_code == 429
    assert answer["Retry-After"]
    assert google.calls["/tokeninfo"] == 30
    assert known.get(PROFILE).status_code == 200
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert bearer(google.google_token()).get(PROFILE, **elsewhere).status_code == 200


def test_tokens_of_no_provider_are_not_sent_anywhere(provider, configure, bearer):
    configure(access_tokens="introspection")
    foreign = provider.access_token(iss="https://other.example")
    assert bearer(foreign).get(PROFILE).status_code == 401
    assert validations(provider) == 0
    assert not ForeignToken.objects.exists()


def test_removed_provider_is_refused_at_once(google, bearer, settings):
    client = bearer(google.google_token())
    assert client.get(PROFILE).status_code == 200
    settings.MYOMETRICS_AUTH = {}
    assert client.get(PROFILE).status_code == 401


def test_own_tokens_go_on_beside_providers(google, doctor, sign_in):
    client = sign_in(doctor)
    assert client.get(PROFILE).status_code == 200
    assert sign_out(client, client.tokens["refresh"]).status_code == 200


def test_second_factor_of_the_user_is_required(google, bearer, doctor, sign_in):
    enrol(sign_in(doctor))
    get_user_model().objects.update(verified_at=utc_now())
    answer = bearer(google.google_token(email=doctor.email)).get(PROFILE)
    assert (answer.status_code, answer.json()["code"]) == (403, "mfa_required")
    assert Session.objects.count() == 1


@pytest.mark.parametrize("claims", [{"amr": ["pwd", "mfa"]}, {"acr": "mfa"}])
def test_second_factor_at_the_provider_counts(claims, provider, configure, bearer):
    configure(access_tokens="jwt", auth={"MFA_REQUIRED_ROLES": ["doctor"]})
    assert bearer(provider.access_token(**claims)).get(PROFILE).status_code == 200
    assert Session.objects.get().second_factor


def test_role_with_second_factor_refuses_a_bearer_without(provider, configure, bearer):
    configure(access_tokens="jwt", auth={"MFA_REQUIRED_ROLES": ["doctor"]})
    answer = bearer(provider.access_token(amr=["pwd"])).get(PROFILE)
    assert (answer.status_code, answer.json()["code"]) == (403, "mfa_required")


def test_role_that_requires_a_second_factor_later_refuses(provider, configure, bearer, settings):
    configure(access_tokens="jwt")
    client = bearer(provider.access_token())
    assert client.get("/api/auth/sessions/").status_code == 200
    configure(access_tokens="jwt", auth={"MFA_REQUIRED_ROLES": ["doctor"]})
    answer = client.get("/api/users/")
    assert (answer.status_code, answer.json()["code"]) == (403, "mfa_required")


def test_event_names_the_provider(google, bearer, published):
    bearer(google.google_token()).get(PROFILE)
    started = [event for event in published if event.action == "login_succeeded"]
    assert [event.details for event in started] == [{"provider": "hospital"}]


def test_session_of_each_new_token_is_one_event(google, bearer, published):
    for _ in range(3):
        bearer(google.google_token()).get(PROFILE)
    assert [event.action for event in published].count("login_succeeded") == 1


def test_erased_user_is_not_made_again_by_older_tokens(kind, provider, bearer, clock):
    # With a stopped clock: by tokeninfo's answer every token was issued a second ago.
    used, unseen = make(provider, kind), make(provider, kind)
    client = bearer(used)
    assert client.get(PROFILE).status_code == 200
    assert client.delete("/api/users/me/").status_code == 204
    assert client.get(PROFILE).status_code == 401
    assert bearer(unseen).get(PROFILE).status_code == 401
    assert not get_user_model().objects.exists()
    assert not Identity.objects.exists()
    with later(minutes=2):
        newer = make(provider, kind, **({"exp": None} if kind == "introspection" else {}))
        newer = provider.access_token() if kind == "jwt" else newer
        if kind == "tokeninfo":
            newer = provider.google_token(expires_in="7200")
        if kind == "introspection":
            newer = provider.opaque_token(iat=int(time.time()))
        assert bearer(newer).get(PROFILE).status_code == 200


def test_token_without_times_is_older_than_an_erasure(provider, configure, bearer):
    configure(access_tokens="introspection")
    client = bearer(provider.opaque_token(iat=None, exp=None))
    assert client.get(PROFILE).status_code == 200
    assert client.delete("/api/users/me/").status_code == 204
    unseen = provider.opaque_token(iat=None, exp=None)
    assert bearer(unseen).get(PROFILE).status_code == 401
    assert not get_user_model().objects.exists()


def test_sweep_keeps_tokens_that_may_still_be_valid(google, bearer):
    bearer(google.google_token()).get(PROFILE)
    bearer("ya29.wrong").get(PROFILE)
    assert foreign_tokens_sweep() == 0
    with later(minutes=2):
        assert foreign_tokens_sweep() == 1
    with later(hours=2):
        assert foreign_tokens_sweep() == 1


def test_tokeninfo_and_introspection_get_the_token(kind, provider, bearer):
    token = make(provider, kind)
    bearer(token).get(PROFILE)
    sent = dict(provider.forms)
    if kind == "introspection":
        assert sent["/introspect"]["token"] == token
    if kind == "tokeninfo":
        assert sent["/tokeninfo"] == {"access_token": token}


def test_health_does_not_wait_for_a_database_that_hangs(
    google, bearer, monkeypatch, django_assert_num_queries
):
    report = HealthReport("down", {"database": "down"}, utc_now())
    monkeypatch.setattr("myometrics_core.health.health_views.check_health", lambda: report)
    client = bearer(google.google_token())
    with django_assert_num_queries(0):
        answer = client.get("/api/health/")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")


def test_client_without_secret_names_itself(provider, configure, bearer):
    configure(access_tokens="introspection", client_secret=None)
    bearer(provider.opaque_token()).get(PROFILE)
    assert dict(provider.forms)["/introspect"]["client_id"] == CLIENT_ID


def test_rotated_keys_are_fetched_once_a_minute(provider, configure, bearer, monkeypatch):
    configure(access_tokens="jwt")
    assert bearer(provider.access_token()).get(PROFILE).status_code == 200
    provider.keys["new"] = type(provider.keys["rsa"]).generate_key(2048, {"kid": "new"})
    provider.published[:] = ["new"]
    token = provider.access_token(options={"key": "new"})
    for _ in range(2):
        assert bearer(token).get(PROFILE).status_code == 401
    assert provider.calls["/jwks"] == 1
    monkeypatch.setattr("myometrics_auth.federation.discovery.REFRESH_SECONDS", 0.0)
    with later(minutes=2):
        token = provider.access_token(options={"key": "new"})
        assert bearer(token).get(PROFILE).status_code == 200
        assert provider.calls["/jwks"] == 2
        withdrawn = provider.access_token(options={"key": "rsa"})
        assert bearer(withdrawn).get(PROFILE).status_code == 401


def test_without_header_the_request_is_anonymous(google):
    answer = APIClient().get(PROFILE)
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_old_sign_in_at_the_provider_is_not_recent(provider, configure, bearer, exchange):
    configure(access_tokens="jwt", auth={"REAUTHENTICATE_FOR": ["delete_account"]})
    long_ago = int(time.time()) - 1200
    first_use = bearer(provider.access_token(auth_time=long_ago))
    assert first_use.delete("/api/users/me/").status_code == 403
    exchanged = exchange(provider.id_token(auth_time=long_ago)).json()
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {exchanged['access']}")
    assert client.delete("/api/users/me/").status_code == 403
    assert bearer(provider.access_token(auth_time=int(time.time()))).get(PROFILE).status_code == 200
    # A token of the same session with an older sign-in takes nothing back.
    older = bearer(provider.access_token(auth_time=long_ago, jti="older"))
    assert older.delete("/api/users/me/").status_code == 204


def test_token_without_a_sign_in_counts_from_its_issue(kind, provider, configure, bearer, exchange):
    use(kind, configure, provider, auth={"REAUTHENTICATE_FOR": ["delete_account"]})
    age = {"expires_in": "2400"} if kind == "tokeninfo" else {"iat": int(time.time()) - 1200}
    token = make(provider, kind, **age)
    assert bearer(token).delete("/api/users/me/").status_code == 403
    exchanged = exchange(token, kind="access_token").json()
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {exchanged['access']}")
    assert client.delete("/api/users/me/").status_code == 403
    new = exchange(make(provider, kind), kind="access_token").json()
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {new['access']}")
    assert client.delete("/api/users/me/").status_code == 204


def test_new_sign_in_at_the_provider_counts_as_recent(provider, configure, bearer):
    configure(access_tokens="jwt", auth={"REAUTHENTICATE_FOR": ["delete_account"]})
    assert bearer(provider.access_token()).get(PROFILE).status_code == 200
    with later(minutes=20):
        renewed = bearer(provider.access_token(auth_time=int(time.time()) - 1200))
        assert renewed.delete("/api/users/me/").status_code == 403
        again = bearer(provider.access_token(auth_time=int(time.time())))
        assert again.delete("/api/users/me/").status_code == 204
