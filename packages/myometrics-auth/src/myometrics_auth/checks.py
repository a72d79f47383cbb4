"""System checks of auth beyond the settings' own: what is unsafe though it is well-formed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import checks
from rest_framework.settings import api_settings

from .authentication import SessionTokenAuthentication
from .conf import auth_settings
from .models import AbstractClinicUser
from .other_logins import other_logins
from .services.browser_sessions import COOKIE_ENGINE

__all__ = ["register_checks"]

SHORTEST_KEY = 32
"""Bytes of a key for HS256 (RFC 7518, 3.2) and of one that secrets are encrypted under."""
LONGEST_ACCESS = timedelta(minutes=15)
LONGEST_REFRESH = timedelta(days=7)
LONGEST_RESET = timedelta(days=3)
NEEDED_OF_USERS = (
    "email",
    "email_canonical",
    "search_text",
    "role",
    *AbstractClinicUser.PROFILE_FIELDS,
)
UNSAFE_HASHERS = ("MD5PasswordHasher", "SHA1PasswordHasher", "UnsaltedMD5", "UnsaltedSHA1")


def register_checks() -> None:
    """Have ``manage.py check`` run them."""
    checks.register(check_user_model)
    checks.register(check_keys, checks.Tags.security)
    checks.register(check_lifetimes, checks.Tags.security)
    checks.register(check_passwords, checks.Tags.security)
    checks.register(check_authentication)
    checks.register(check_other_logins, checks.Tags.security)
    checks.register(check_session_engine, checks.Tags.security)


def check_user_model(**kwargs: Any) -> list[checks.CheckMessage]:
    """E010: people are of a model without what auth keeps about them."""
    known = {field.name for field in get_user_model()._meta.get_fields()}
    missing = [name for name in NEEDED_OF_USERS if name not in known]
    if not missing:
        return []
    return [
        checks.Error(
            f"AUTH_USER_MODEL {django_settings.AUTH_USER_MODEL!r} lacks {', '.join(missing)}.",
            hint="In a new site set AUTH_USER_MODEL = 'myometrics_auth.User', or derive your "
            "user model from myometrics_auth.models.AbstractClinicUser. In a site that has people "
            "they must be moved to such a model first; until then leave myometrics_auth out: "
            "the other packages work with any user model.",
            id="myometrics_auth.E010",
        )
    ]


def check_keys(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W010, W011: keys that can be found by trying."""
    if auth_settings.check():
        return
    if len(auth_settings.signing_key.encode()) < SHORTEST_KEY:
        yield _warning(
            "W010",
            f"Tokens are signed with a key of fewer than {SHORTEST_KEY} bytes.",
            'Make SECRET_KEY, or MYOMETRICS_AUTH["SIGNING_KEY"], long and random.',
        )
    if any(len(key.encode()) < SHORTEST_KEY for key in auth_settings.encryption_keys):
        yield _warning(
            "W011",
            f"Second factors are encrypted under a key of fewer than {SHORTEST_KEY} bytes.",
            'Make SECRET_KEY, or each of MYOMETRICS_AUTH["MFA_ENCRYPTION_KEYS"], long and random.',
        )


def check_lifetimes(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W012–W014: what was stolen stays good for longer than the specification allows."""
    if auth_settings.check():
        return
    if auth_settings.ACCESS_TOKEN_LIFETIME > LONGEST_ACCESS:
        yield _warning(
            "W012",
            "Access tokens live longer than 15 minutes.",
            'Lower MYOMETRICS_AUTH["ACCESS_TOKEN_LIFETIME"].',
        )
    if auth_settings.REFRESH_TOKEN_LIFETIME > LONGEST_REFRESH:
        yield _warning(
            "W013",
            "Refresh tokens live longer than 7 days.",
            'Lower MYOMETRICS_AUTH["REFRESH_TOKEN_LIFETIME"].',
        )
    if timedelta(seconds=django_settings.PASSWORD_RESET_TIMEOUT) > LONGEST_RESET:
        yield _warning(
            "W014", "Reset links live longer than 3 days.", "Lower PASSWORD_RESET_TIMEOUT."
        )


def check_passwords(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W015, W016: passwords that are guessed, or read from a stolen table."""
    if not django_settings.AUTH_PASSWORD_VALIDATORS:
        yield _warning(
            "W015",
            "Any password will do: AUTH_PASSWORD_VALIDATORS is empty.",
            "Take those of Django's project template.",
        )
    if str(django_settings.PASSWORD_HASHERS[0]).endswith(UNSAFE_HASHERS):
        yield _warning(
            "W016",
            "New passwords are stored under a hash that is quick to try.",
            "Put Argon2 or PBKDF2 first in PASSWORD_HASHERS.",
        )


def check_authentication(**kwargs: Any) -> list[checks.CheckMessage]:
    """W017: tokens are handed out, and no endpoint accepts them."""
    classes: Any = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    if any(issubclass(accepted, SessionTokenAuthentication) for accepted in classes):
        return []
    return [
        _warning(
            "W017",
            "The tokens that sign-in hands out are accepted nowhere.",
            "Add 'myometrics_auth.authentication.SessionTokenAuthentication' to "
            "REST_FRAMEWORK['DEFAULT_AUTHENTICATION_CLASSES'].",
        )
    ]


def check_other_logins(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W030: a view that signs users in without auth's sign-in service."""
    for route, view in other_logins():
        yield _warning(
            "W030",
            f"{route} ({view}) signs users in past auth: without its login throttle, second "
            "factor and sessions.",
            "Sign in through the API or the admin site instead; an admin site of your own "
            "derives from myometrics_auth.admin_site.AuthAdminSite. If this login is meant to "
            "be separate, put 'myometrics_auth.W030' into SILENCED_SYSTEM_CHECKS.",
        )


def check_session_engine(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W031: sessions of browsers that the server can't delete."""
    if django_settings.SESSION_ENGINE == COOKIE_ENGINE and apps.is_installed(
        "django.contrib.admin"
    ):
        yield _warning(
            "W031",
            "Django keeps sessions in cookies: a browser whose session has ended is signed out of "
            "the admin site, but not of other pages.",
            "Choose another SESSION_ENGINE.",
        )


def _warning(number: str, message: str, hint: str) -> checks.CheckMessage:
    return checks.Warning(message, hint=hint, id=f"myometrics_auth.{number}")
