"""Examinations of accounts by ``manage.py myometrics_doctor``."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth import get_user_model

from myometrics_auth import doctor
from myometrics_auth.models import Session, TotpDevice
from myometrics_core.times import utc_now, utc_text

pytestmark = pytest.mark.django_db


def states(examine):
    return {found.name: found.state for found in examine()}


def make_user(email, role="doctor", **fields):
    return get_user_model().objects.create_user(email=email, role=role, **fields)


def test_site_without_an_administrator_is_a_warning():
    assert states(doctor.examine_administrators)["administrators"] == "warning"
    make_user("ada@clinic.example", "admin", is_active=False)
    assert states(doctor.examine_administrators)["administrators"] == "warning"
    make_user("eve@clinic.example", "admin")
    assert states(doctor.examine_administrators)["administrators"] == "ok"


def is_superuser(user):
    return bool(user.is_superuser)


def test_administrators_are_counted_by_is_administrator(settings):
    settings.MYOMETRICS = {**settings.MYOMETRICS, "IS_ADMINISTRATOR": f"{__name__}.is_superuser"}
    make_user("ada@clinic.example", "admin")
    assert states(doctor.examine_administrators)["administrators"] == "warning"
    make_user("eve@clinic.example", is_superuser=True)
    assert states(doctor.examine_administrators)["administrators"] == "ok"


def test_staff_below_administrator_is_a_warning():
    make_user("ada@clinic.example", "admin", is_staff=True, is_superuser=True)
    assert states(doctor.examine_administrators)["staff"] == "ok"
    make_user("tom@clinic.example", is_superuser=True)
    found = {one.name: one for one in doctor.examine_administrators()}
    assert found["staff"].state == "warning"
    assert "tom@" not in str(found)


def test_token_key_may_be_dropped_when_no_session_needs_it(settings):
    def say():
        return " ".join(f"{found.summary} {found.advice}" for found in doctor.examine_token_keys())

    settings.MYOMETRICS_AUTH = {"SIGNING_KEYS": ["n" * 32]}
    assert say().strip() == "There is one."
    settings.MYOMETRICS_AUTH = {"SIGNING_KEYS": ["n" * 32, "o" * 32]}
    now, user = utc_now(), make_user("ada@clinic.example")
    Session.objects.create(user=user, created_at=now - timedelta(days=8), expires_at=now)
    assert "All but the first may be removed" in say()
    started = now - timedelta(days=3)
    Session.objects.create(user=user, created_at=started, expires_at=now + timedelta(days=4))
    assert utc_text(started) in say()
    assert "Only a key that was replaced before that may be removed." in say()
    assert "o" * 32 not in say()


def test_administrators_without_a_second_factor_are_counted(settings):
    ada = make_user("ada@clinic.example", "admin")
    assert states(doctor.examine_second_factor) == {
        "second factor": "warning",
        "administrators' second factor": "warning",
    }
    TotpDevice.objects.create(user=ada, secret="x", confirmed_at=utc_now())
    settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
    assert set(states(doctor.examine_second_factor).values()) == {"ok"}
    make_user("tom@clinic.example", is_staff=True)
    assert states(doctor.examine_second_factor)["administrators' second factor"] == "warning"


def test_admin_site_with_djangos_own_login_is_named(settings, monkeypatch):
    from django.contrib import admin

    class Protected(admin.AdminSite):
        __module__ = "myometrics_auth.admin_site"

    plain, protected, unrouted = admin.AdminSite(), Protected(), admin.AdminSite(name="nowhere")
    monkeypatch.setattr(admin.sites, "all_sites", [plain])
    assert states(doctor.examine_admin_login) == {"admin sign-in": "warning"}
    settings.MYOMETRICS_AUTH = {"MFA_REQUIRED_ROLES": ["admin"]}
    (found,) = doctor.examine_admin_login()
    assert (found.state, "admin" in found.summary) == ("problem", True)
    monkeypatch.setattr(admin.sites, "all_sites", [protected])
    assert states(doctor.examine_admin_login) == {"admin sign-in": "ok"}
    monkeypatch.setattr(admin.sites, "all_sites", [unrouted])
    assert states(doctor.examine_admin_login) == {"admin sign-in": "not configured"}


def test_users_who_cannot_sign_in_unverified_are_a_warning(settings):
    assert states(doctor.examine_addresses)["addresses"] == "ok"
    make_user("tom@clinic.example", self_registered=True)
    make_user("ada@clinic.example")
    (found,) = doctor.examine_addresses()
    assert (found.state, found.summary) == (
        "ok",
        "2 active users have not verified theirs; 1 registered themselves.",
    )
    settings.MYOMETRICS_AUTH = {"EMAIL_VERIFICATION": "required"}
    (found,) = doctor.examine_addresses()
    assert (found.state, found.summary.split()[0]) == ("warning", "1")
    assert "tom@" not in str(found)
