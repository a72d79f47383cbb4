"""The settings of auth: the dictionary ``MYOMETRICS_AUTH``."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from myometrics_core.conf import (
    DOTTED_PATH,
    Setting,
    SettingsGroup,
    django_secret_keys,
    key_list,
    positive,
)

from .federation.conf import parse_providers

__all__ = ["REAUTHENTICATED_OPERATIONS", "ROLES", "AuthSettings", "auth_settings"]

ROLES: Final = ("admin", "doctor", "technician")
"""The roles of the specification ("User Model")."""
MAX_BEARER_LIFETIME: Final = timedelta(hours=12)

PASSKEY_RULES: Final[Mapping[str, tuple[type, ...]]] = {
    "attestation": (str,),
    "aaguids": (list, tuple, str),
    "roots": (str,),
    "synced": (bool,),
}
"""Rules of ``PASSKEY_POLICY`` and the types of their values."""
PASSKEY_ATTESTATIONS: Final = ("none", "direct")

REAUTHENTICATED_OPERATIONS: Final = ("delete_account", "change_email", "disable_mfa", "export")
"""Operations for which ``REAUTHENTICATE_FOR`` can require a recent sign-in."""


def _roles(value: Iterable[Any]) -> None:
    for role in value:
        if role not in ROLES:
            raise ValueError(f"contains {role!r}; the roles are {', '.join(ROLES)}")


def _scim(value: Mapping[Any, Any]) -> None:
    for slug, provider in value.items():
        if not re.fullmatch("[A-Za-z0-9_-]{1,50}", str(slug)):
            raise ValueError(f"has {slug!r}; expected a slug of letters, digits, - and _")
        if not isinstance(provider, Mapping):
            raise ValueError(f"has no dictionary for {slug!r}")
        if unknown := set(provider) - {"roles"}:
            raise ValueError(f"has an unknown key {min(unknown)!r} for {slug!r} (known: roles)")
        roles = provider.get("roles", {})
        if not isinstance(roles, Mapping):
            raise ValueError(f"has no dictionary of groups and roles for {slug!r}")
        _roles(roles.values())


def _providers(value: dict[str, Any]) -> None:
    parse_providers(value, roles=ROLES)


def _bearer_lifetime(value: timedelta) -> None:
    positive(value)
    if value > MAX_BEARER_LIFETIME:
        raise ValueError("must be at most 12 hours")


def _domain(value: str) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", value) or _is_address(value):
        raise ValueError("must be a domain in lower case, such as 'clinic.example'")


def _is_address(value: str) -> bool:
    try:
        ip_address(value)
    except ValueError:
        return False
    return True


def _origins(value: Iterable[Any]) -> None:
    for origin in value:
        parts = urlsplit(origin) if isinstance(origin, str) else None
        if parts is None or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
            raise ValueError(f"contains {origin!r}; an origin is like 'https://clinic.example'")


def _passkey_policy(value: Mapping[Any, Any]) -> None:
    _roles(value)
    for role, rules in value.items():
        if not isinstance(rules, Mapping):
            raise ValueError(f"must have a dictionary for {role!r}")
        for key, rule in rules.items():
            if key not in PASSKEY_RULES:
                known = ", ".join(PASSKEY_RULES)
                raise ValueError(f"has an unknown rule {key!r} for {role!r}; rules are {known}")
            expected = PASSKEY_RULES[key]
            if not isinstance(rule, expected):
                names = " or ".join(kind.__name__ for kind in expected)
                raise ValueError(f"must have {names} as {key!r} of {role!r}")
        if rules.get("attestation", "none") not in PASSKEY_ATTESTATIONS:
            raise ValueError(f"must have 'none' or 'direct' as 'attestation' of {role!r}")
        if rules.get("attestation") != "direct" and (rules.get("aaguids") or rules.get("roots")):
            raise ValueError(f"must require 'direct' attestation of {role!r} to check its models")
        aaguids = rules.get("aaguids", ())
        for aaguid in () if isinstance(aaguids, str) else aaguids:
            uuid.UUID(str(aaguid))


def _operations(value: Iterable[Any]) -> None:
    for operation in value:
        if operation not in REAUTHENTICATED_OPERATIONS:
            known = ", ".join(REAUTHENTICATED_OPERATIONS)
            raise ValueError(f"contains {operation!r}; the operations are {known}")


class AuthSettings(SettingsGroup):
    """Settings for accounts, sessions and second factors."""

    name = "MYOMETRICS_AUTH"
    app = "myometrics_auth"

    SIGNING_KEYS = Setting(
        (list, tuple),
        None,
        "Keys of the tokens (HS256), each at least 32 bytes; the first signs, all verify. By "
        "default `SECRET_KEY`, then `SECRET_KEY_FALLBACKS`.",
        validate=key_list,
    )
    SIGNING_KEY = Setting(
        str,
        None,
        "Deprecated: write `SIGNING_KEYS` with this one key. Ignored beside `SIGNING_KEYS`.",
    )
    ACCESS_TOKEN_LIFETIME = Setting(
        timedelta, timedelta(minutes=15), "How long an access token is accepted.", validate=positive
    )
    REFRESH_TOKEN_LIFETIME = Setting(
        timedelta,
        timedelta(days=7),
        "How long a session lasts after the sign-in, whether refreshed or not.",
        validate=positive,
    )
    SESSION_RETENTION = Setting(
        timedelta,
        timedelta(days=30),
        "How long ended and expired sessions are kept. The login throttle counts attempts from the "
        "addresses of kept sessions separately.",
    )
    SESSION_IDLE_TIMEOUT = Setting(
        timedelta,
        None,
        "How long a session may be unused. Uses are recorded once a minute, so a session may end "
        "up to a minute earlier. By default sessions are not ended.",
        validate=positive,
    )
    SESSIONS_PER_USER = Setting(
        int,
        None,
        "How many sessions a user may have; a sign-in ends the oldest ones. By default any number.",
        validate=positive,
    )
    ROTATE_REFRESH_TOKENS = Setting(
        bool,
        False,
        "Replace the refresh token at each refresh. Reuse of an old one ends the session.",
    )
    REAUTHENTICATE_FOR = Setting(
        (list, tuple),
        (),
        "Operations that need a sign-in or reauthentication within the last ten minutes: "
        "`delete_account`, `change_email`, `disable_mfa`, `export`.",
        validate=_operations,
    )
    RECORD_SIGN_INS = Setting(
        bool,
        True,
        "Publish events for sign-ins, failed sign-ins, sign-outs and password changes, so that an "
        "audit log can record them.",
    )
    FAILED_SIGN_IN_LIMIT = Setting(
        int,
        20,
        "Failed sign-ins to one account after which its sign-ins are throttled. Client addresses "
        "with an earlier sign-in are counted separately.",
        validate=positive,
    )
    FAILED_SIGN_IN_WINDOW = Setting(
        timedelta,
        timedelta(hours=1),
        "Failed sign-ins and wrong second factors of an account are deleted this long after the "
        "last evaluated attempt.",
        validate=positive,
    )
    FAILED_SIGN_IN_PAUSE = Setting(
        timedelta,
        timedelta(minutes=1),
        "When throttled, at most one sign-in per interval is evaluated; the others are refused.",
        validate=positive,
    )
    PASSWORD_RESET_PATH = Setting(
        str,
        "/reset-password",
        'Page of the front end, under `MYOMETRICS["FRONTEND_URL"]`, that the reset mail links to, '
        "with `uid` and `token` in its query.",
    )
    INVITATION_PATH = Setting(
        str,
        "/register",
        'Page of the front end, under `MYOMETRICS["FRONTEND_URL"]`, that an invitation links to, '
        "with `invitation` in its query.",
    )
    INVITATION_LIFETIME = Setting(
        timedelta, timedelta(days=7), "How long an invitation can be accepted.", validate=positive
    )
    REGISTRATION = Setting(
        str,
        "open",
        "Who may register: all callers, only who was invited by an administrator, or no one "
        "(`closed`).",
        choices=("open", "invitation", "closed"),
    )
    EMAIL_VERIFICATION = Setting(
        str,
        "optional",
        "With `required`, users who registered themselves can sign in once they have verified "
        "their address.",
        choices=("optional", "required"),
    )
    RECIPIENT_LANGUAGE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_language",
        "Function that takes a user and returns the language code of their mails.",
    )
    SECURITY_NOTICES = Setting(
        bool,
        True,
        "Mail users a notice when their password, second factors, passkeys, identities or address "
        "change, and when they sign in on a new device.",
    )
    CLINIC_NAME_SET_BY = Setting(
        str,
        "owner",
        "Who sets a user's clinic, which scopes statistics. With `administrators`, registration "
        "ignores `clinicName`, and a user below administrator gets a 400 for a changed value.",
        choices=("owner", "administrators"),
    )
    MFA_REQUIRED_ROLES = Setting(
        (list, tuple),
        (),
        "Roles that must sign in with a second factor. Without one, a user can only enrol, read "
        "and change the profile, and sign out.",
        validate=_roles,
    )
    ADMIN_LOGIN = Setting(
        bool,
        True,
        "Sign in to the default admin site through auth: rate limit, login throttle, second "
        "factor, sessions. `False` keeps Django's login, or the site's own. Read when the process "
        "starts.",
    )
    MFA_ISSUER = Setting(
        str, "MyoMetrics", "Name of the site in authenticator apps and security notices."
    )
    MFA_ENCRYPTION_KEYS = Setting(
        (list, tuple),
        None,
        "Encryption keys of stored TOTP secrets; the first encrypts, all decrypt. By default "
        "`SECRET_KEY`, then `SECRET_KEY_FALLBACKS`.",
        validate=key_list,
    )
    MFA_TOKEN_LIFETIME = Setting(
        timedelta,
        timedelta(minutes=5),
        "Time limit for the second factor after the password.",
        validate=positive,
    )
    MFA_FAILURE_LIMIT = Setting(
        int,
        10,
        "Wrong second factors of one account after which its second factors are throttled.",
        validate=positive,
    )
    MFA_FAILURE_PAUSE = Setting(
        timedelta,
        timedelta(minutes=5),
        "When throttled, at most one second factor per interval is evaluated; the others are "
        "refused.",
        validate=positive,
    )

    IDENTITY_PROVIDERS = Setting(
        dict,
        {},
        "Identity providers (OpenID Connect) by slug, for the app `myometrics_auth.federation`.",
        validate=_providers,
    )
    FEDERATED_BEARER_LIFETIME = Setting(
        timedelta,
        None,
        "How long an access token of a provider is accepted after its first use, at most 12 hours "
        "and 30 minutes after its last one. By default as long as the token itself.",
        validate=_bearer_lifetime,
    )
    PASSKEY_RP_ID = Setting(
        str,
        None,
        "Domain of the passkeys (relying party id): the front end's host or a parent domain of it. "
        "A passkey works for this domain only. By default the host of "
        '`MYOMETRICS["FRONTEND_URL"]`.',
        validate=_domain,
    )
    PASSKEY_ORIGINS = Setting(
        (list, tuple),
        None,
        "Origins of the pages that use passkeys, such as `https://app.clinic.example`; their hosts "
        "are in the domain. By default those of `CORS_ALLOWED_ORIGINS`.",
        validate=_origins,
    )
    PASSKEY_NAME = Setting(str, "MyoMetrics", "Name of the site that browsers show for a passkey.")
    PASSKEY_POLICY = Setting(
        dict,
        {},
        "Which passkeys the users of a role may use, by role: `attestation` (`none`, `direct`), "
        "`aaguids` (a list of models, or a file of them), `roots` (a file of certificates), "
        "`synced` (bool). By default any.",
        validate=_passkey_policy,
    )
    SCIM = Setting(
        dict,
        {},
        "Identity providers that manage users over SCIM, by the slug of their address. `roles` "
        'gives roles by group name or id: `{"entra": {"roles": {"Radiology admins": "admin"}}}`.',
        validate=_scim,
    )

    @property
    def signing_keys(self) -> tuple[str, ...]:
        """The token signing keys in use; the first one signs."""
        own = self.SIGNING_KEYS or ([self.SIGNING_KEY] if self.SIGNING_KEY else None)
        return tuple(str(key) for key in own or django_secret_keys())

    @property
    def encryption_keys(self) -> list[str]:
        """The encryption keys for TOTP secrets in use; the first one encrypts."""
        return [str(key) for key in self.MFA_ENCRYPTION_KEYS or django_secret_keys()]


auth_settings = AuthSettings()
"""``MYOMETRICS_AUTH`` with defaults; each access reads the current settings."""
