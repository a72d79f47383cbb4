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
            raise ValueError(f"holds {role!r}; the roles are {', '.join(ROLES)}")


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
        timedelta,
        timedelta(minutes=15),
        "How long an access token is accepted.",
        validate=positive,
    )
    REFRESH_TOKEN_LIFETIME = Setting(
        timedelta,
        timedelta(days=7),
        "How long a session lasts from the sign-in on, refreshed or not.",
        validate=positive,
    )
    SESSION_RETENTION = Setting(
        timedelta,
        timedelta(days=30),
        "How long an ended or expired session is kept before the sweep deletes it. From these "
        "rows an address is known where a person has signed in before.",
    )
    RECORD_SIGN_INS = Setting(
        bool,
        True,
        "Publish sign-ins, failed sign-ins, sign-outs and password changes as activities, "
        "so that an audit log can keep them.",
    )
    FAILED_SIGN_IN_LIMIT = Setting(
        int,
        20,
        "Failed sign-ins at one account within the window, from addresses it was never signed in "
        "from, before guessing is slowed.",
        validate=positive,
    )
    FAILED_SIGN_IN_WINDOW = Setting(
        timedelta,
        timedelta(hours=1),
        "After so long without a judged failure, failed sign-ins are forgotten.",
        validate=positive,
    )
    FAILED_SIGN_IN_PAUSE = Setting(
        timedelta,
        timedelta(minutes=1),
        "Once slowed, one sign-in per this span is judged; all others are refused unseen.",
        validate=positive,
    )
    PASSWORD_RESET_PATH = Setting(
        str,
        "/reset-password",
        'Page of the front end, under `MYOMETRICS["FRONTEND_URL"]`, that the reset mail links to; '
        "`uid` and `token` are its query.",
    )
    RECIPIENT_LANGUAGE = Setting(
        DOTTED_PATH,
        "myometrics_core.users.site_language",
        "Function of a user: the language code of the reset mail to them.",
    )
    CLINIC_NAME_SET_BY = Setting(
        str,
        "owner",
        "Who sets a user's clinic, by which figures are scoped. `administrators`: registration "
        "ignores `clinicName`, and an owner who is no administrator gets a 400 for another value.",
        choices=("owner", "administrators"),
    )
    MFA_REQUIRED_ROLES = Setting(
        (list, tuple),
        (),
        "Roles that must sign in with a second factor. Until they have one they can enrol, "
        "see their profile and sign out, nothing else.",
        validate=_roles,
    )
    ADMIN_LOGIN = Setting(
        bool,
        True,
        "Sign in to the default admin site through auth: rate limit, login throttle, second "
        "factor, sessions. `False` leaves it to Django, or to a login of the site's own. Read "
        "when the process starts.",
    )
    MFA_ISSUER = Setting(str, "MyoMetrics", "The name that an authenticator app shows.")
    MFA_ENCRYPTION_KEYS = Setting(
        (list, tuple),
        None,
        "Keys under which TOTP secrets are stored; the first encrypts, all decrypt. By default "
        "`SECRET_KEY`, then `SECRET_KEY_FALLBACKS`.",
        validate=key_list,
    )
    MFA_TOKEN_LIFETIME = Setting(
        timedelta,
        timedelta(minutes=5),
        "How long a person has between password and second factor.",
        validate=positive,
    )
    MFA_FAILURE_LIMIT = Setting(
        int,
        10,
        "Wrong second factors of one account before guessing is slowed.",
        validate=positive,
    )
    MFA_FAILURE_PAUSE = Setting(
        timedelta,
        timedelta(minutes=5),
        "Once slowed, one second factor per this span is judged.",
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
