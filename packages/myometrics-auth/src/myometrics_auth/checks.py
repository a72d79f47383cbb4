"""System checks of auth for settings that are valid but unsafe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.contrib.auth.password_validation import get_default_password_validators
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import router, transaction
from django.db.models import QuerySet
from rest_framework.settings import api_settings

from myometrics_core.conf import MIN_KEY_BYTES, has_short_key, register_check
from myometrics_core.db import DATABASE_FAILURES
from myometrics_core.mail import (
    default_mail_backend_path,
    register_link_check,
    register_mail_check,
)

from .authentication import SessionTokenAuthentication
from .conf import auth_settings
from .models import AbstractClinicUser
from .other_logins import other_logins
from .selectors import staff_below_administrator
from .services.browser import COOKIE_ENGINE

STAFF_SHOWN = 20
APP = "myometrics_auth"

MAX_ACCESS_LIFETIME = timedelta(minutes=15)
MAX_REFRESH_LIFETIME = timedelta(days=7)
MAX_RESET_LIFETIME = timedelta(days=3)
REQUIRED_USER_FIELDS = (
    "email",
    "email_canonical",
    "search_text",
    "role",
    "verified_at",
    "self_registered",
    *AbstractClinicUser.PROFILE_FIELDS,
)
BACKENDS_WITHOUT_DELIVERY = ("console", "dummy", "filebased", "locmem")
UNSAFE_HASHERS = ("MD5PasswordHasher", "SHA1PasswordHasher", "UnsaltedMD5", "UnsaltedSHA1")


def register_checks() -> None:
    """Register the checks of this package."""
    register_check(check_user_model, app=APP)
    register_check(check_keys, checks.Tags.security, app=APP)
    register_check(check_lifetimes, checks.Tags.security, app=APP)
    register_check(check_passwords, checks.Tags.security, app=APP)
    register_check(check_authentication, app=APP)
    register_check(check_staff, checks.Tags.database, app=APP)
    register_check(check_other_logins, checks.Tags.security, app=APP)
    register_check(check_session_engine, checks.Tags.security, app=APP)
    register_check(check_identity_providers, app=APP)
    register_check(check_required_mails, app=APP)
    register_link_check(APP, "W034")
    register_mail_check(APP)


def check_user_model(**kwargs: Any) -> list[checks.CheckMessage]:
    """E010: the user model lacks fields that auth requires."""
    known = {field.name for field in get_user_model()._meta.get_fields()}
    missing = [name for name in REQUIRED_USER_FIELDS if name not in known]
    if not missing:
        return []
    return [
        checks.Error(
            f"AUTH_USER_MODEL {django_settings.AUTH_USER_MODEL!r} lacks {', '.join(missing)}.",
            hint="In a new site set AUTH_USER_MODEL = 'myometrics_auth.User', or derive your "
            "user model from myometrics_auth.models.AbstractClinicUser. In a site with users, "
            "move them to such a model first; without myometrics_auth the other packages work "
            "with any user model.",
            id="myometrics_auth.E010",
        )
    ]


def check_keys(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W010, W011: keys short enough for a brute-force attack."""
    if auth_settings.check():
        return
    if has_short_key(auth_settings.signing_keys):
        yield _warning(
            "W010",
            f"Tokens are signed or accepted with a key of fewer than {MIN_KEY_BYTES} bytes.",
            'Make SECRET_KEY, or each of MYOMETRICS_AUTH["SIGNING_KEYS"], long and random.',
        )
    if has_short_key(auth_settings.encryption_keys):
        yield _warning(
            "W011",
            f"Second factors are encrypted under a key of fewer than {MIN_KEY_BYTES} bytes.",
            'Make SECRET_KEY, or each of MYOMETRICS_AUTH["MFA_ENCRYPTION_KEYS"], long and random.',
        )


def check_lifetimes(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W012–W014: lifetimes exceed the limits of the specification; W033: idle timeout without
    effect.
    """
    if auth_settings.check():
        return
    if auth_settings.ACCESS_TOKEN_LIFETIME > MAX_ACCESS_LIFETIME:
        yield _warning(
            "W012",
            "Access tokens live longer than 15 minutes.",
            'Lower MYOMETRICS_AUTH["ACCESS_TOKEN_LIFETIME"].',
        )
    if auth_settings.REFRESH_TOKEN_LIFETIME > MAX_REFRESH_LIFETIME:
        yield _warning(
            "W013",
            "Refresh tokens live longer than 7 days.",
            'Lower MYOMETRICS_AUTH["REFRESH_TOKEN_LIFETIME"].',
        )
    idle_timeout = auth_settings.SESSION_IDLE_TIMEOUT
    if idle_timeout is not None and idle_timeout > auth_settings.REFRESH_TOKEN_LIFETIME:
        yield _warning(
            "W033",
            "The idle timeout has no effect: sessions expire earlier.",
            'Make MYOMETRICS_AUTH["SESSION_IDLE_TIMEOUT"] shorter than "REFRESH_TOKEN_LIFETIME".',
        )
    if timedelta(seconds=django_settings.PASSWORD_RESET_TIMEOUT) > MAX_RESET_LIFETIME:
        yield _warning(
            "W014", "Reset links live longer than 3 days.", "Lower PASSWORD_RESET_TIMEOUT."
        )


def check_passwords(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """E011, W015, W016: unusable or no password validators, or a weak password hasher."""
    try:
        get_default_password_validators()
    except (ImproperlyConfigured, TypeError) as error:
        yield checks.Error(
            f"A password validator can't be used: {error}",
            hint="Correct AUTH_PASSWORD_VALIDATORS.",
            id="myometrics_auth.E011",
        )
    if not django_settings.AUTH_PASSWORD_VALIDATORS:
        yield _warning(
            "W015",
            "Every password is accepted: AUTH_PASSWORD_VALIDATORS is empty.",
            "Use those of Django's project template.",
        )
    if "".join(map(str, django_settings.PASSWORD_HASHERS[:1])).endswith(UNSAFE_HASHERS):
        yield _warning(
            "W016",
            "New passwords are stored with a hash that is fast to compute.",
            "Put Argon2 or PBKDF2 first in PASSWORD_HASHERS.",
        )


def check_authentication(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W017: no endpoint accepts the tokens that auth issues."""
    classes: Any = api_settings.DEFAULT_AUTHENTICATION_CLASSES
    if not any(issubclass(accepted, SessionTokenAuthentication) for accepted in classes):
        yield _warning(
            "W017",
            "No endpoint accepts the tokens that auth issues.",
            "Add 'myometrics_auth.authentication.SessionTokenAuthentication' to "
            "REST_FRAMEWORK['DEFAULT_AUTHENTICATION_CLASSES'].",
        )


def check_staff(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[checks.CheckMessage]:
    """W032: staff and superusers whose role is below administrator."""
    model = get_user_model()
    using = router.db_for_read(model)
    if using not in (databases or ()) or check_user_model():
        return
    staff = staff_below_administrator(QuerySet(model, using=using))
    try:
        with transaction.atomic(using=using):
            keys = list(staff.order_by("pk").values_list("pk", flat=True))
    except DATABASE_FAILURES:  # not migrated yet; the doctor reports one that is down
        return
    if keys:
        shown = ", ".join(map(str, keys[:STAFF_SHOWN])) + (", …" if keys[STAFF_SHOWN:] else "")
        yield _warning(
            "W032",
            f"Users whose role is not administrator may use the admin site ({len(keys)}): {shown}.",
            "Clear is_staff and is_superuser, or give them the role. If this is intended, add the "
            "check to SILENCED_SYSTEM_CHECKS.",
        )


def check_other_logins(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W030: a view signs users in without auth's sign-in service."""
    for route, view in other_logins():
        yield _warning(
            "W030",
            f"{route} ({view}) signs users in without auth's login throttle, second factor "
            "and sessions.",
            "Sign in through the API or the admin site instead; derive a custom admin "
            "site from myometrics_auth.admin_site.AuthAdminSite. If this login is "
            "intended, add 'myometrics_auth.W030' to SILENCED_SYSTEM_CHECKS.",
        )


def check_session_engine(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W031: the session engine stores sessions in cookies, which the server can't delete."""
    if django_settings.SESSION_ENGINE == COOKIE_ENGINE and apps.is_installed(
        "django.contrib.admin"
    ):
        yield _warning(
            "W031",
            "Django stores sessions in cookies: a browser whose session has ended is signed out of "
            "the admin site, but not of other pages.",
            "Choose another SESSION_ENGINE.",
        )


def check_identity_providers(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W035: identity providers are configured, but the app that uses them is not installed."""
    is_configured = not auth_settings.check() and auth_settings.IDENTITY_PROVIDERS
    if is_configured and not apps.is_installed("myometrics_auth.federation"):
        yield _warning(
            "W035",
            "The identity providers are not used: their app is not installed.",
            "Add 'myometrics_auth.federation' to INSTALLED_APPS and its urls to the API, and "
            "install myometrics-auth[oidc].",
        )


def check_required_mails(**kwargs: Any) -> Iterator[checks.CheckMessage]:
    """W050: users can't sign in or register without mails, and mails are not sent."""
    if auth_settings.check():
        return
    needs = [
        name
        for name, value in (("EMAIL_VERIFICATION", "required"), ("REGISTRATION", "invitation"))
        if getattr(auth_settings, name) == value
    ]
    backend = default_mail_backend_path() or ""
    if needs and (not backend or backend.split(".")[-2] in BACKENDS_WITHOUT_DELIVERY):
        yield _warning(
            "W050",
            f"MYOMETRICS_AUTH {' and '.join(map(repr, needs))} needs mails, and the site's mail "
            "backend delivers none.",
            'Set MAILERS["default"], or before Django 6.1 EMAIL_BACKEND, to one that does.',
        )


def _warning(number: str, message: str, hint: str) -> checks.CheckMessage:
    return checks.Warning(message, hint=hint, id=f"myometrics_auth.{number}")
