"""Account examinations of ``manage.py myometrics_doctor``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models import Min
from django.urls import NoReverseMatch, reverse

from myometrics_core.conf import core_settings
from myometrics_core.db import read_in_batches
from myometrics_core.doctor import Diagnosis, register_examination
from myometrics_core.times import utc_text
from myometrics_core.users import is_administrator

from .conf import auth_settings
from .models import AddressOwnership, Session
from .selectors import (
    LIKELY_ADMINISTRATOR,
    staff_below_administrator,
    unverified_users,
    users_with_second_factor,
)


def register_examinations() -> None:
    """Register the examinations of this package."""
    register_examination("administrators", examine_administrators, needs_database=True)
    register_examination("token keys", examine_token_keys, needs_database=True)
    register_examination("second factor", examine_second_factor, needs_database=True)
    register_examination("addresses", examine_addresses, needs_database=True)
    register_examination("address owners", examine_address_owners, needs_database=True)
    register_examination("admin sign-in", examine_admin_login, needs_database=True)


def examine_administrators() -> Iterator[Diagnosis]:
    """Check for an active administrator, and for staff with a role below administrator."""
    active = get_user_model()._base_manager.filter(is_active=True)
    if count := sum(map(is_administrator, read_in_batches(active.order_by("pk")))):
        yield Diagnosis("administrators", "ok", f"{count} are active.")
    else:
        yield Diagnosis(
            "administrators",
            "warning",
            "There is no active administrator.",
            "Make one with 'manage.py createsuperuser'.",
        )
    if below := staff_below_administrator(active).count():
        yield Diagnosis(
            "staff",
            "warning",
            f"{below} active users are staff or superusers with a role below administrator.",
            "Clear is_staff and is_superuser, or make them administrators.",
        )
    else:
        yield Diagnosis("staff", "ok", "All staff are administrators.")


def examine_token_keys() -> Iterator[Diagnosis]:
    """Report which token keys live sessions still need."""
    name, count = "token keys", len(auth_settings.signing_keys)
    if count == 1:
        yield Diagnosis(name, "ok", "There is one.")
        return
    oldest = Session.objects.live().aggregate(at=Min("created_at"))["at"]
    if oldest is None:
        text = "no session needs the old ones"
        hint = "All but the first may be removed from MYOMETRICS_AUTH['SIGNING_KEYS']."
    else:
        text = f"the oldest live session began at {utc_text(oldest)}"
        hint = "Only a key that was replaced before that may be removed."
    yield Diagnosis(name, "ok", f"There are {count}; {text}.", hint)


def examine_second_factor() -> Iterator[Diagnosis]:
    """Check whether administrators have a second factor, and whether it is required."""
    required = list(auth_settings.MFA_REQUIRED_ROLES)
    if "admin" in required:
        yield Diagnosis("second factor", "ok", f"Required of: {', '.join(required)}.")
    else:
        yield Diagnosis(
            "second factor",
            "warning",
            "Administrators don't need one.",
            "Add 'admin' to MYOMETRICS_AUTH['MFA_REQUIRED_ROLES'].",
        )
    likely = get_user_model()._base_manager.filter(LIKELY_ADMINISTRATOR, is_active=True)
    if missing := likely.exclude(pk__in=users_with_second_factor(likely).values("pk")).count():
        yield Diagnosis(
            "administrators' second factor",
            "warning",
            f"{missing} administrators or staff have none.",
            "Have them enrol an authenticator app.",
        )
    else:
        yield Diagnosis("administrators' second factor", "ok", "All administrators have one.")


def examine_addresses() -> Iterator[Diagnosis]:
    """Report active users who can't sign in because their address was never verified."""
    name, active = "addresses", unverified_users()
    count, refused = active.count(), active.filter(self_registered=True).count()
    if refused and auth_settings.EMAIL_VERIFICATION == "required":
        yield Diagnosis(
            name,
            "warning",
            f"{refused} active users registered themselves and can't sign in: their address is "
            "not verified.",
            "List them with 'manage.py verify_addresses'; '--mail' sends them a link.",
        )
    elif count:
        text = f"{count} active users have not verified theirs; {refused} registered themselves."
        yield Diagnosis(name, "ok", text, "'manage.py verify_addresses' lists them.")
    else:
        yield Diagnosis(name, "ok", "All active users have verified theirs.")


def examine_address_owners() -> Iterator[Diagnosis]:
    """Check that the owners of addresses are known, and report which pseudonym keys they need."""
    name, count = "address owners", len(core_settings.pseudonym_keys)
    if unmatched := AddressOwnership.objects.count_unmatched():
        yield Diagnosis(
            name,
            "problem",
            f"The owners of {unmatched} addresses are hashed under a key that was removed.",
            "Add the key again at the end of MYOMETRICS['PSEUDONYM_KEYS'], or uploads under an "
            "address can be shown to a later owner.",
        )
        return
    oldest = AddressOwnership.objects.aggregate(at=Min("taken_at"))["at"]
    if count == 1 or oldest is None:
        yield Diagnosis(name, "ok", f"No address needs an old key; keys: {count}.")
    else:
        yield Diagnosis(
            name,
            "ok",
            f"There are {count} keys; the oldest owner is of {utc_text(oldest)}.",
            "Only keys that were replaced before that can be removed.",
        )


def examine_admin_login() -> Iterator[Diagnosis]:
    """Check whether the admin sites sign in through auth."""
    has_site, names = False, []
    if apps.is_installed("django.contrib.admin"):
        from django.contrib.admin.sites import all_sites  # noqa: PLC0415 (where it is installed)

        for site in sorted(all_sites, key=lambda site: site.name):
            with suppress(NoReverseMatch):
                reverse(f"{site.name}:login")
                has_site = True
                if not any(
                    kind.__module__.startswith("myometrics_auth.") for kind in type(site).__mro__
                ):
                    names.append(site.name)
    if not has_site:
        yield Diagnosis("admin sign-in", "not configured", "There is no admin site.")
    elif names:
        users = get_user_model()._base_manager.all()
        in_use = users_with_second_factor(users).exists() or bool(auth_settings.MFA_REQUIRED_ROLES)
        yield Diagnosis(
            "admin sign-in",
            "problem" if in_use else "warning",
            f"The password alone signs in to: {', '.join(names)}. No second factor, no throttle.",
            "Leave MYOMETRICS_AUTH['ADMIN_LOGIN'] on, or protect these sites in another way.",
        )
    else:
        yield Diagnosis("admin sign-in", "ok", "It has the checks of the API.")
