"""System checks of passkeys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings as django_settings
from django.core import checks

from myometrics_auth.conf import auth_settings
from myometrics_core.conf import core_settings, register_check

from .conf import allowed_origins, is_within, policy_for, relying_party_id

APP = "myometrics_auth"
LOCAL = "localhost"


def register_checks() -> None:
    """Register the checks of this app, under the ids of auth."""
    register_check(check_relying_party, app=APP)
    register_check(check_policy, checks.Tags.security, app=APP)
    register_check(check_admin_site, app=APP)


def check_relying_party(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W040–W042: passkeys can't be used with these settings."""
    if auth_settings.check():
        return
    domain = relying_party_id()
    if not domain:
        yield checks.Warning(
            "Passkeys have no domain.",
            hint="Set MYOMETRICS_AUTH['PASSKEY_RP_ID'], or MYOMETRICS['FRONTEND_URL'] to a URL "
            "whose host is a name.",
            id=f"{APP}.W040",
        )
        return
    for origin in auth_settings.PASSKEY_ORIGINS or ():
        parts = urlsplit(origin)
        if not is_within(parts.hostname or ""):
            yield checks.Warning(
                f"The origin {origin} is not in {domain}, the domain of the passkeys.",
                hint="Browsers refuse passkeys there. Change MYOMETRICS_AUTH['PASSKEY_ORIGINS'] or "
                "['PASSKEY_RP_ID'].",
                id=f"{APP}.W041",
            )
        elif parts.scheme != "https" and parts.hostname != LOCAL:
            yield checks.Warning(
                f"The origin {origin} does not use HTTPS.",
                hint="Browsers offer no passkeys there.",
                id=f"{APP}.W041",
            )
    if not allowed_origins():
        yield checks.Warning(
            f"No page can use passkeys: no origin is in their domain, {domain}.",
            hint="Set MYOMETRICS_AUTH['PASSKEY_ORIGINS'] to the origins of the front end.",
            id=f"{APP}.W042",
        )


def check_policy(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E043, W043: a file of the policy can't be read, or models are not certified."""
    if auth_settings.check():
        return
    for role in auth_settings.PASSKEY_POLICY:
        try:
            policy = policy_for(role)
        except (OSError, ValueError) as error:
            yield checks.Error(
                f"MYOMETRICS_AUTH['PASSKEY_POLICY'] names a file for {role!r} that can't be used: "
                f"{error}.",
                hint="'aaguids' is a list or a file with one AAGUID a line, 'roots' a PEM file.",
                id=f"{APP}.E043",
            )
            continue
        if policy.needs_attestation and policy.roots is None:
            yield checks.Warning(
                f"The attestation of passkeys is not verified for {role!r}.",
                hint="Any software can claim to be any model. Name the manufacturers' "
                "certificates in a PEM file as 'roots' of MYOMETRICS_AUTH['PASSKEY_POLICY'].",
                id=f"{APP}.W043",
            )


def check_admin_site(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """I044: the admin site is outside of the passkeys' domain and hides them."""
    if not apps.is_installed("django.contrib.admin") or auth_settings.check():
        return
    domain = relying_party_id()
    hosts = [host.lstrip(".") for host in django_settings.ALLOWED_HOSTS if host != "*"]
    hosts.append(urlsplit(core_settings.API_URL).hostname or "")
    if domain and not any(is_within(host) for host in hosts):
        yield checks.Info(
            f"The admin site offers no passkeys: none of its hosts is in their domain, {domain}.",
            hint="Set MYOMETRICS_AUTH['PASSKEY_RP_ID'] to a parent domain of the front end and "
            "the admin site before the first passkey is registered, or add this check to "
            "SILENCED_SYSTEM_CHECKS.",
            id=f"{APP}.I044",
        )
