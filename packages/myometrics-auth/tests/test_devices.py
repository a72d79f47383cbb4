"""Known devices: which sign-ins cause a notice."""

from __future__ import annotations

import json

import pytest
from conftest import NEW_PASSWORD, PASSWORD, later, query_of, send
from django.contrib.auth import get_user_model
from django.core import mail
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st
from rest_framework.test import APIClient

from myometrics_auth.device_families import BROWSERS, MAX_FAMILY_LENGTH, SYSTEMS, device_family
from myometrics_auth.jobs import SendSecurityNotice, Sweep
from myometrics_auth.models import KnownDevice, Session
from myometrics_auth.reset_links import reset_link
from myometrics_core.jobs import Job, run_jobs
from myometrics_core.times import utc_now

pytestmark = pytest.mark.django_db

MOZILLA = "Mozilla/5.0"
FIREFOX = f"{MOZILLA} (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0"
NEWER_FIREFOX = FIREFOX.replace("128", "131")
CHROME = f"{MOZILLA} (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36"  # noqa: E501
AGENTS = {
    FIREFOX: "Firefox, Windows",
    CHROME: "Chrome, Linux",
    f"{CHROME} Edg/126.0.0.0": "Edge, Linux",
    f"{CHROME} OPR/112.0": "Opera, Linux",
    f"{MOZILLA} (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) "
    "SamsungBrowser/25.0 Chrome/121.0.0.0 Mobile Safari/537.36": "Samsung Internet, Android",
    f"{MOZILLA} (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) CriOS/126.0.6478.54 Mobile/15E148 Safari/604.1": "Chrome, iPhone",
    f"{MOZILLA} (iPad; CPU OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "FxiOS/127.0 Mobile/15E148 Safari/605.1.15": "Firefox, iPad",
    f"{MOZILLA} (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Safari/605.1.15": "Safari, macOS",
    f"{MOZILLA} (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/126.0.0.0 Safari/537.36": "Chrome, ChromeOS",
    "Clinic/7 CFNetwork/1496.0.7 Darwin/23.5.0": "Apple",
    "okhttp/4.12.0": "",
    "": "",
}


PARTS = [part for table in (BROWSERS, SYSTEMS) for part, _name in table]


@pytest.mark.parametrize(("user_agent", "family"), AGENTS.items(), ids=AGENTS.values())
def test_family_is_browser_and_system(user_agent, family):
    assert device_family(user_agent) == family


@given(st.lists(st.text() | st.sampled_from(PARTS)).map("".join))
def test_family_of_any_text_is_short_and_ours(user_agent):
    family = device_family(user_agent)
    assert len(family) <= MAX_FAMILY_LENGTH
    names = {name for table in (BROWSERS, SYSTEMS) for _part, name in table}
    assert {*family.split(", ")} <= {*names, ""}


def notices():
    """The devices that were reported as new."""
    jobs = Job.objects.filter(kind=SendSecurityNotice.name, payload__notice="new_device")
    return [job.payload["device"] for job in jobs.order_by("pk")]


def test_registration_is_not_reported(api, db):
    body = {
        "email": "new@clinic.example",
        "password": PASSWORD,
        "firstName": "Jane",
        "lastName": "Smith",
        "clinicName": "",
    }
    assert send(api, "post", "auth/register/", body).status_code == 201
    assert notices() == []
    assert KnownDevice.objects.get().family == ""


def test_only_a_new_device_is_reported(doctor, sign_in):
    for user_agent in (FIREFOX, NEWER_FIREFOX, CHROME, FIREFOX, CHROME):
        sign_in(doctor, HTTP_USER_AGENT=user_agent)
    assert notices() == ["Chrome, Linux"]
    run_jobs(SendSecurityNotice.name)
    [message] = mail.outbox
    assert message.subject == "MyoMetrics: Someone signed in to your account on a new device"
    assert "Chrome, Linux" in message.body


def test_devices_of_other_users_are_not_known(doctor, make_user, sign_in):
    sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    other = make_user()
    sign_in(other, HTTP_USER_AGENT=CHROME)
    sign_in(other, HTTP_USER_AGENT=FIREFOX)
    assert notices() == ["Firefox, Windows"]


def test_device_is_new_after_ninety_days(doctor, sign_in):
    sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    with later(days=89):
        sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
        assert notices() == []
    with later(days=180):
        Session.objects.all().delete()
        sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
        assert notices() == ["Firefox, Windows"]
        assert KnownDevice.objects.count() == 1


def test_dormant_account_is_reported_after_the_sweep(doctor, sign_in):
    sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    with later(days=91):
        Job.objects.filter(kind=Sweep.name).delete()
        Sweep().run(Job(kind=Sweep.name))
        assert not KnownDevice.objects.exists()
        sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    assert notices() == ["Firefox, Windows"]


def test_devices_of_sessions_before_the_upgrade_are_known(doctor, sign_in):
    sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    sign_in(doctor, HTTP_USER_AGENT=CHROME)
    KnownDevice.objects.all().delete()
    Job.objects.all().delete()
    sign_in(doctor, HTTP_USER_AGENT=NEWER_FIREFOX)
    sign_in(doctor, HTTP_USER_AGENT=CHROME)
    assert notices() == []
    sign_in(doctor)
    assert notices() == [""]


def test_second_factor_and_admin_site_report_it_too(enrolled, doctor, clock):
    get_user_model().objects.filter(pk=doctor.pk).update(is_staff=True)
    token = APIClient(HTTP_USER_AGENT=CHROME)
    body = {"email": doctor.email, "password": PASSWORD}
    answer = send(token, "post", "auth/login/", body)
    assert notices() == [], "the password alone is no sign-in"
    body = {"mfa_token": answer.json()["mfa_token"], "code": enrolled.app.at(utc_now())}
    assert send(token, "post", "auth/login/mfa/", body).status_code == 200
    clock.shift(60)
    browser = Client(HTTP_USER_AGENT=FIREFOX)
    browser.post("/admin/login/", {"username": doctor.email, "password": PASSWORD})
    browser.post("/admin/login/second-factor/", {"code": enrolled.app.at(utc_now())})
    assert notices() == ["Chrome, Linux", "Firefox, Windows"]


def test_failed_sign_in_makes_no_device_known(doctor, api):
    send(api, "post", "auth/login/", {"email": doctor.email, "password": "wrong"})
    assert not KnownDevice.objects.exists()


def test_known_device_costs_one_query(doctor, sign_in, api, django_assert_num_queries):
    sign_in(doctor)
    body = {"email": doctor.email, "password": PASSWORD}
    # The savepoint of the subscriber in conftest.py is two more.
    with django_assert_num_queries(9 + 2):
        send(api, "post", "auth/login/", body)


def test_switched_off_notices_record_no_device(doctor, sign_in, settings):
    settings.MYOMETRICS_AUTH = {"SECURITY_NOTICES": False}
    sign_in(doctor)
    assert not KnownDevice.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_sign_ins_at_once_on_a_new_device_send_one_notice(doctor, sign_in, run_concurrently):
    sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    run_concurrently(lambda: sign_in(doctor, HTTP_USER_AGENT=CHROME), times=8)
    assert notices() == ["Chrome, Linux"]
    assert KnownDevice.objects.count() == 2


def test_devices_are_exported_and_erased(doctor, sign_in):
    client = sign_in(doctor, HTTP_USER_AGENT=FIREFOX)
    answer = client.get("/api/users/me/export/?format=json")
    [device] = json.loads(answer.getvalue())["profile"]["knownDevices"]
    assert set(device) == {"device", "lastSignIn"}
    assert device["device"] == "Firefox, Windows"
    assert client.delete("/api/users/me/").status_code == 204
    assert not KnownDevice.objects.exists()


def test_takeover_by_the_owner_forgets_the_devices_of_the_registrant(make_user, sign_in, api):
    user = make_user(self_registered=True)
    sign_in(user, HTTP_USER_AGENT=FIREFOX)
    body = {**query_of(reset_link(user)), "new_password": NEW_PASSWORD}
    assert send(api, "post", "auth/password-reset/confirm/", body).status_code == 200
    assert not KnownDevice.objects.exists()
