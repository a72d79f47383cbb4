"""The relying party, its origins and its policy, from the settings of auth and of the site."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.http import HttpRequest

from myometrics_auth.conf import auth_settings
from myometrics_core.conf import core_settings


@dataclass(frozen=True)
class Policy:
    """Which passkeys the users of a role may use."""

    needs_attestation: bool = False
    aaguids: frozenset[uuid.UUID] | None = None
    roots: bytes | None = None
    allows_synced: bool = True


def relying_party_id() -> str:
    """Return the domain that passkeys belong to; empty if there is none."""
    if auth_settings.PASSKEY_RP_ID is not None:
        return str(auth_settings.PASSKEY_RP_ID)
    host = urlsplit(core_settings.FRONTEND_URL).hostname or ""
    return "" if _is_address(host) else host


def allowed_origins() -> list[str]:
    """Return the origins of the front end that lie within the relying party's domain."""
    origins = auth_settings.PASSKEY_ORIGINS
    if origins is None:
        origins = getattr(django_settings, "CORS_ALLOWED_ORIGINS", ())
    return [origin for origin in origins if is_within(urlsplit(origin).hostname or "")]


def admin_origin(request: HttpRequest) -> str | None:
    """Return the origin of the admin site's page; ``None`` if passkeys can't be used there.

    Browsers offer passkeys over HTTPS only, except on ``localhost``.
    """
    host = request.get_host()
    name = urlsplit(f"//{host}").hostname or ""
    if not is_within(name) or not (request.is_secure() or name == "localhost"):
        return None
    return f"{request.scheme}://{host}"


def is_within(host: str) -> bool:
    """Return whether ``host`` is the relying party's domain or below it."""
    domain = relying_party_id()
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def policy_for(role: str) -> Policy:
    """Return the policy of ``PASSKEY_POLICY`` for ``role``.

    Reads the files that it names; raises ``OSError`` or ``ValueError`` if one is unusable.
    """
    rules: Mapping[str, Any] = auth_settings.PASSKEY_POLICY.get(role, {})
    aaguids = rules.get("aaguids")
    if isinstance(aaguids, str):
        lines = Path(aaguids).read_text(encoding="utf-8").splitlines()
        aaguids = [text for line in lines if (text := line.partition("#")[0].strip())]
    roots = rules.get("roots")
    return Policy(
        needs_attestation=rules.get("attestation") == "direct",
        aaguids=None if aaguids is None else frozenset(uuid.UUID(str(one)) for one in aaguids),
        roots=None if roots is None else Path(roots).read_bytes(),
        allows_synced=rules.get("synced", True),
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
