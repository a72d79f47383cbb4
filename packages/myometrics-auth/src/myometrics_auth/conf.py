"""The settings of auth: the dictionary ``MYOMETRICS_AUTH``."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from myometrics_core.conf import (
    DOTTED_PATH,
    Setting,
    SettingsGroup,
    django_secret_keys,
    key_list,
    positive,
)

__all__ = ["ROLES", "AuthSettings", "auth_settings"]

ROLES: Final = ("admin", "doctor", "technician")
"""The roles of the specification ("User Model")."""


def _roles(value: Iterable[Any]) -> None:
    for role in value:
        if role not in ROLES:
            raise ValueError(f"contains {role!r}; the roles are {', '.join(ROLES)}")


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
    RECIPIENT_LANGUAGE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_language",
        "Function that takes a user and returns the language code of the reset mail.",
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
    MFA_ISSUER = Setting(str, "MyoMetrics", "Issuer shown in authenticator apps.")
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
