"""Password validation, change, and reset by mail.

Specification: "POST /auth/change-password/" and "POST /auth/password-reset/".
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model, update_session_auth_hash
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import password_changed, validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.events import publish_account_event
from myometrics_auth.jobs import SendPasswordReset
from myometrics_auth.models import Session, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.reset_links import user_of_reset_link
from myometrics_auth.selectors import has_second_factor
from myometrics_core.api import CallerDeleted
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address, http_request
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, existing_user_ids

from .browser import browser_key_store
from .login_throttle import LoginThrottle, login_throttle_erase, own_password_check
from .second_factor import second_factor_remove

__all__ = [
    "password_change",
    "password_problems",
    "password_reset_confirm",
    "password_reset_request",
]


def password_problems(password: str, user: User) -> list[str]:
    """Return the messages of the site's password validators; empty if ``password`` is valid."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        return list(error.messages)
    return []


def password_change(
    *,
    user: User,
    session: Session | None,
    old_password: str,
    new_password: str,
    request: AnyRequest,
) -> None:
    """Set a new password; end every session of ``user`` except ``session``.

    Raises ``ValidationError`` on ``old_password`` (wrong, or refused by the login throttle) or
    ``new_password``.
    """
    if not own_password_check(user=user, password=old_password, request=request):
        raise ValidationError({"old_password": [_("The old password is not right.")]})
    _require_valid(new_password, user)
    encoded = make_password(new_password)
    with atomic_write():
        if not _replace_password(user, encoded):
            if not existing_user_ids([user.pk]):
                raise CallerDeleted()
            raise ValidationError({"old_password": [_("The old password is not right.")]})
        Session.objects.filter(user=user).excluding(session).end()
        password_changed(new_password, user)
        publish_account_event("password_changed", user=user, request=request)
    django_request = http_request(request)
    if (session is None or session.is_of_browser) and hasattr(django_request, "session"):
        user.password = encoded
        update_session_auth_hash(django_request, user)
    if session is not None and session.is_of_browser:
        browser_key_store(session=session, request=django_request)


def password_reset_request(*, email: str) -> None:
    """Enqueue the mail. The job looks the address up, so that known ones take the same time."""
    enqueue(SendPasswordReset.name, {"email": canonical_email(email)})


def password_reset_confirm(*, uid: str, token: str, new_password: str, request: AnyRequest) -> None:
    """Set a new password by the link of a reset mail; end every session of the user.

    The link was sent by mail, so this verifies the address. The first reset of a self-registered
    account also removes its second factors, its sessions and the trusted addresses of the login
    throttle: the account may have been registered by someone who does not own the address.

    A link works once; a rejected password does not use it up. Raises ``ValidationError`` on
    ``token`` (wrong, used, expired; inactive or deleted user) or ``new_password``.
    """
    invalid_link = ValidationError({"token": [_("The link is invalid or has expired.")]})
    user = user_of_reset_link(uid, token)
    if user is None:
        raise invalid_link
    _require_valid(new_password, user)
    encoded = make_password(new_password)
    with atomic_write():
        if not _replace_password(user, encoded, email_canonical=user.email_canonical):
            raise invalid_link
        Session.objects.filter(user=user).end()
        LoginThrottle(user.email).reset()
        _verify(user, request)
        LoginThrottle(user.email, client_address(request)).trust_address()
        password_changed(new_password, user)
        publish_account_event("password_reset", user=user, request=request)


def _verify(user: User, request: AnyRequest) -> None:
    unverified = get_user_model().objects.filter(pk=user.pk, verified_at=None)
    if not unverified.filter(self_registered=True).update(verified_at=utc_now()):
        unverified.update(verified_at=utc_now())
        return
    # Remove every other way to sign in: another user may have registered the account.
    if has_second_factor(user):
        publish_account_event("second_factor_disabled", user=user, request=request)
    second_factor_remove(user=user)
    login_throttle_erase(user)
    Session.objects.filter(user=user).delete()


def _replace_password(user: User, encoded: str, **unchanged: Any) -> bool:
    # Compare-and-set: fails if the password or another checked value has changed.
    same = {"pk": user.pk, "password": user.password, "is_active": True, **unchanged}
    return bool(get_user_model().objects.filter(**same).update(password=encoded))


def _require_valid(new_password: str, user: User) -> None:
    if problems := password_problems(new_password, user):
        raise ValidationError({"new_password": problems})
