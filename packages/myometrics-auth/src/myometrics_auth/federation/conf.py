"""The identity providers of ``MYOMETRICS_AUTH["IDENTITY_PROVIDERS"]``, parsed and validated."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

ENDPOINTS: Final = (
    "jwks_uri",
    "authorization_endpoint",
    "token_endpoint",
    "userinfo_endpoint",
    "introspection_endpoint",
)
"""Keys that override the provider's discovery document."""
GOOGLE_TOKENINFO: Final = "https://oauth2.googleapis.com/tokeninfo"
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
SLUG: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}")

_Check = Callable[[Any], object]


@dataclass(frozen=True)
class Provider:
    """One identity provider, and the site's rules for its users.

    ``endpoints`` are the overrides of discovery. ``provisioning`` is ``None`` unless configured.
    """

    slug: str
    issuer: str
    client_id: str
    discovery_url: str
    endpoints: Mapping[str, str]
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    access_tokens: str
    tokeninfo_endpoint: str
    required_claims: Mapping[str, Collection[Any]]
    provisioning: str | None
    trust_email: bool
    role_claim: str
    roles: Mapping[str, str]
    mfa_claims: tuple[str, ...]
    name: str
    secret: str = field(repr=False, default="")
    secret_file: str = field(repr=False, default="")

    @property
    def client_secret(self) -> str:
        """The client's secret, read again from its file at each use; ``""`` without one."""
        if self.secret_file:
            return Path(self.secret_file).read_text(encoding="utf-8").strip()
        return self.secret

    @property
    def is_local(self) -> bool:
        """Whether the issuer is on this machine, where http is accepted."""
        return urlsplit(self.issuer).hostname in LOOPBACK


def is_fetchable(url: Any, *, loopback: bool = True) -> bool:
    """Return whether ``url`` is an https URL, or an http URL of this machine if ``loopback``."""
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and parts.username is None and (parts.port or 1) > 0
    except (ValueError, AttributeError, TypeError):
        return False
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        return False
    is_local = loopback and parts.scheme == "http" and parts.hostname in LOOPBACK
    return has_host and not parts.fragment and (parts.scheme == "https" or is_local)


def parse_providers(
    value: Any, *, roles: Collection[str], reads_files: bool = True
) -> dict[str, Provider]:
    """Return the providers by slug; raise ``ValueError`` that names the key and what it expects.

    ``roles`` are the roles that provider groups can be mapped to. ``reads_files``: whether files of
    secrets must be readable.
    """
    return {slug: _parse(slug, given, roles, reads_files) for slug, given in value.items()}


def _parse(slug: Any, given: Any, roles: Collection[str], reads_files: bool) -> Provider:
    if not isinstance(slug, str) or not SLUG.fullmatch(slug):
        raise ValueError(f"has the key {slug!r}; a slug is lower-case letters, digits, - and _")
    if not isinstance(given, Mapping):
        raise ValueError(f"[{slug!r}] must be a dictionary")
    checks = _checks(roles)
    for key, found in given.items():
        if key not in checks:
            raise ValueError(f"[{slug!r}] has an unknown key {key!r}; known: {', '.join(checks)}")
        expected, is_valid = checks[key]
        is_unread = key == "client_secret_file" and not reads_files
        if not is_unread and not is_valid(found):
            raise ValueError(f"[{slug!r}][{key!r}] must be {expected}")
    for key in ("issuer", "client_id"):
        if key not in given:
            raise ValueError(f"[{slug!r}] lacks {key!r}")
    if "client_secret" in given and "client_secret_file" in given:
        raise ValueError(f"[{slug!r}] has both 'client_secret' and 'client_secret_file'")
    if bool(given.get("role_claim")) != bool(given.get("roles")):
        raise ValueError(f"[{slug!r}] needs both 'role_claim' and 'roles', or neither")
    return _provider(slug, given)


def _provider(slug: str, given: Mapping[str, Any]) -> Provider:
    issuer, client_id = given["issuer"], given["client_id"]
    return Provider(
        slug=slug,
        issuer=issuer,
        client_id=client_id,
        discovery_url=given.get("discovery_url")
        or f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        endpoints={name: given[name] for name in ENDPOINTS if name in given},
        audiences=tuple(given.get("audiences", [client_id])),
        scopes=tuple(given.get("scopes", ["openid", "email", "profile"])),
        access_tokens=given.get("access_tokens", "off"),
        tokeninfo_endpoint=given.get("tokeninfo_endpoint", GOOGLE_TOKENINFO),
        required_claims=given.get("required_claims", {}),
        provisioning=given.get("provisioning"),
        trust_email=given.get("trust_email", True),
        role_claim=given.get("role_claim", ""),
        roles=given.get("roles", {}),
        mfa_claims=tuple(given.get("mfa_claims", ["mfa"])),
        name=given.get("name", slug),
        secret=given.get("client_secret", ""),
        secret_file=given.get("client_secret_file", ""),
    )


def _checks(roles: Collection[str]) -> dict[str, tuple[str, _Check]]:
    url = ("an https URL, or http on this machine", is_fetchable)
    text = ("a text that is not empty", lambda v: isinstance(v, str) and bool(v.strip()))
    texts = ("a list of texts that is not empty", _is_list_of_texts)
    issuer = ("an https URL, or http on this machine, without a query", _is_issuer)
    known = ", ".join(roles)
    return {
        "issuer": issuer,
        "discovery_url": url,
        **dict.fromkeys(ENDPOINTS, url),
        "client_id": text,
        "client_secret": text,
        "client_secret_file": ("the path of a file that can be read", _is_readable),
        "audiences": texts,
        "scopes": ("a list of texts with 'openid'", _has_openid),
        "access_tokens": _one_of("off", "jwt", "introspection", "tokeninfo"),
        "tokeninfo_endpoint": url,
        "required_claims": ("a dictionary of lists by claim", _is_dictionary_of_lists),
        "provisioning": _one_of("create", "link", "linked"),
        "trust_email": ("True or False", lambda v: isinstance(v, bool)),
        "role_claim": text,
        "roles": (
            f"a dictionary from values of the claim to {known}",
            lambda v: isinstance(v, Mapping) and all(role in roles for role in v.values()),
        ),
        "mfa_claims": ("a list of texts", lambda v: v in ([], ()) or _is_list_of_texts(v)),
        "name": text,
    }


def _one_of(*choices: str) -> tuple[str, _Check]:
    return "one of " + ", ".join(map(repr, choices)), lambda v: v in choices


def _is_issuer(value: Any) -> bool:
    return is_fetchable(value) and not urlsplit(value).query and len(value) <= 255


def _is_list_of_texts(value: Any) -> bool:
    is_list = isinstance(value, (list, tuple)) and bool(value)
    return is_list and all(isinstance(item, str) and item for item in value)


def _has_openid(value: Any) -> bool:
    return _is_list_of_texts(value) and "openid" in value


def _is_dictionary_of_lists(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(accepted, (list, tuple)) and accepted
        for name, accepted in value.items()
    )


def _is_readable(value: Any) -> bool:
    try:
        return bool(Path(value).read_text(encoding="utf-8").strip())
    except (OSError, ValueError, TypeError):
        return False
