"""Sign-in to the admin site with an identity provider."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from conftest import PASSWORD, enrol
from django.contrib.auth import get_user_model
from django.test import Client

from myometrics_auth.federation.models import FederatedSession, Identity
from myometrics_auth.models import Session
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

START = "/admin/login/provider/hospital/"
OWN = "hosts_own.HastyBackend"
ROLES = {"role_claim": "groups", "roles": {"admins": "admin"}}


@pytest.fixture
def browser():
    return Client()


@pytest.fixture
def administrators(configure):
    configure(name="The hospital", **ROLES)


@pytest.fixture
def come_back(administrators, provider, browser):
    """Signs in at the provider; returns the answer to the redirect back."""

    def sign_in(subject="17", start=START, **claims):
        sent = browser.get(start)
        assert sent.status_code == 302, sent.content
        asked = dict(parse_qsl(urlsplit(sent["Location"]).query))
        given = {"groups": ["admins"], **claims}
        query = urlencode(provider.code(sent["Location"], subject, **given))
        return browser.get(f"{asked['redirect_uri']}?{query}")

    return sign_in


def test_login_page_offers_the_providers(administrators, browser):
    page = browser.get("/admin/login/?next=/admin/auth/").content.decode()
    assert f'href="{START}?next=%2Fadmin%2Fauth%2F"' in page
    assert "Sign in with The hospital" in page
    assert 'name="password"' in page


def test_login_page_without_providers_is_as_before(browser, db):
    assert "provider" not in browser.get("/admin/login/").content.decode()


def test_administrator_by_role_signs_in(come_back, browser):
    answer = come_back()
    assert answer.status_code == 302
    assert answer["Location"] == "/admin/"
    assert browser.get("/admin/").status_code == 200
    session = Session.objects.get()
    assert session.is_of_browser
    assert FederatedSession.objects.get().session == session


def test_account_that_becomes_administrator_by_role_signs_in(come_back, make_user, browser):
    make_user("ada@clinic.example", role="doctor", verified_at=utc_now())
    assert come_back()["Location"] == "/admin/"
    assert browser.get("/admin/").status_code == 200


def test_browser_is_signed_out_when_the_session_ends(come_back, browser):
    come_back()
    Session.objects.all().end()
    assert browser.get("/admin/").status_code == 302


@pytest.mark.parametrize("last", ["django.contrib.auth.backends.ModelBackend", OWN])
def test_backend_that_loads_no_users_is_passed_over(come_back, browser, settings, last):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.BaseBackend", last]
    come_back()
    assert browser.get("/admin/").status_code == 200


def test_next_page_is_kept(come_back):
    answer = come_back(start=f"{START}?next=/admin/password_change/")
    assert answer["Location"] == "/admin/password_change/"


def test_next_page_elsewhere_is_ignored(come_back):
    assert come_back(start=f"{START}?next=https://evil.example/")["Location"] == "/admin/"


def test_user_without_the_role_is_refused(come_back, browser, published):
    answer = come_back(groups=["staff"])
    assert answer["Location"] == "/admin/login/"
    assert "no access here" in browser.get("/admin/login/").content.decode()
    assert browser.get("/admin/").status_code == 302
    assert not Session.objects.exists()
    assert [event.action for event in published].count("login_failed") == 1


def test_code_for_another_browser_is_refused(administrators, provider, browser):
    sent = Client().get(START)
    query = urlencode(provider.code(sent["Location"], groups=["admins"]))
    for _ in range(2):
        answer = browser.get(f"{START}callback/?{query}")
        assert answer["Location"] == "/admin/login/"
        browser.get(START)  # now it has a sign-in of its own
    assert not Session.objects.exists()


def test_refused_sign_in_at_the_provider_goes_back(administrators, browser):
    browser.get(START)
    answer = browser.get(f"{START}callback/?error=access_denied")
    assert answer["Location"] == "/admin/login/"


@pytest.mark.parametrize("roles", [[], ["admin"]], ids=["chosen", "required"])
def test_own_second_factor_is_required(
    roles, come_back, make_user, sign_in, clock, browser, configure
):
    root = make_user("ada@clinic.example", role="admin", is_staff=True, verified_at=utc_now())
    client = sign_in(root)
    enrol(client)
    clock.shift(60)
    configure(**ROLES, auth={"MFA_REQUIRED_ROLES": roles})
    answer = come_back()
    assert answer["Location"] == "/admin/login/second-factor/"
    assert browser.get("/admin/").status_code == 302
    code = client.app.at(utc_now())
    answer = browser.post("/admin/login/second-factor/", {"code": code})
    assert answer.status_code == 302
    assert browser.get("/admin/").status_code == 200
    assert FederatedSession.objects.get().session.second_factor


def test_required_second_factor_must_come_from_the_provider(come_back, configure, browser):
    configure(**ROLES, auth={"MFA_REQUIRED_ROLES": ["admin"]})
    assert come_back()["Location"] == "/admin/login/"
    assert come_back(amr=["mfa"])["Location"] == "/admin/"
    assert browser.get("/admin/").status_code == 200


def test_unreachable_provider_shows_the_login_page(administrators, provider, browser):
    provider.answers["/.well-known/openid-configuration"] = lambda h: h.connection.close()
    assert browser.get(START)["Location"] == "/admin/login/"
    assert "reached" in browser.get("/admin/login/").content.decode()


def test_unknown_provider_is_a_404(administrators, browser):
    assert browser.get("/admin/login/provider/unknown/").status_code == 404


def test_beginning_is_throttled(administrators, browser, settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "RATE_LIMITS": {"auth": "2/hour"}}
    assert [browser.get(START).status_code for _ in range(3)] == [302, 302, 429]


def test_password_sign_in_goes_on(administrators, browser, make_user):
    make_user("root@clinic.example", role="admin", is_staff=True)
    body = {"username": "root@clinic.example", "password": PASSWORD}
    assert browser.post("/admin/login/", body).status_code == 302
    assert get_user_model().objects.count() == 1


@pytest.mark.parametrize("text", ["ada@clinic", "Ada@Clinic", "ADA@CLINIC"])
def test_identity_is_found_by_every_spelling_of_its_address(text, administrator, doctor, client):
    Identity.objects.create(
        user=doctor, issuer="https://id.example", subject="17", email="Ada@Clinic.example"
    )
    type(administrator).objects.filter(pk=administrator.pk).update(is_superuser=True, is_staff=True)
    client.force_login(administrator)
    page = client.get("/admin/myometrics_auth_federation/identity/", {"q": text})
    assert page.context["cl"].result_count == 1
