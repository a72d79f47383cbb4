"""Password validation, change, and reset by mail or by the page of a security notice.

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

from myometrics_auth.account_links import NOTICE_LINK_LIFETIME
from myometrics_auth.events import publish_account_event
from myometrics_auth.jobs import SendPasswordReset
from myometrics_auth.models import EmailChange, Session, UsedToken, User
from myometrics_auth.password_text import normalize_password
from myometrics_auth.requests import AnyRequest
from myometrics_auth.reset_links import user_of_reset_link
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.sign_in_methods import count_sign_in_methods
from myometrics_core.api import CallerDeleted
from myometrics_core.db import atomic_write
from myometrics_core.http import client_address, http_request
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, existing_user_ids

from .browser import browser_key_store
from .login_throttle import LoginThrottle, own_password_check
from .notices import notice_send
from .second_factor import recently_added_remove
from .sessions import sessions_end_others
from .verification import other_access_remove, password_disable


def password_problems(password: str, user: User) -> list[str]:
    """Return the messages of the site's password validators; empty if ``password`` is valid."""
    try:
        validate_password(normalize_password(password), user)
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
    new_password = normalize_password(new_password)
    _require_valid(new_password, user)
    encoded = make_password(new_password)
    with atomic_write():
        if not _replace_password(user, encoded, password=user.password):
            if not existing_user_ids([user.pk]):
                raise CallerDeleted()
            raise ValidationError({"old_password": [_("The old password is not right.")]})
        Session.objects.filter(user=user).excluding(session).end()
        password_changed(new_password, user)
        publish_account_event("password_changed", user=user, request=request)
        notice_send(user=user, notice="password_changed", request=request)
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
    account also removes its second factors, sessions, known devices and the trusted addresses of
    the login throttle: it may have been registered by someone who does not own the address.

    A link works once; a rejected password does not use it up. Raises ``ValidationError`` on
    ``token`` (wrong, used, expired; inactive or deleted user) or ``new_password``.
    """
    invalid_link = ValidationError({"token": [_("The link is invalid or has expired.")]})
    user = user_of_reset_link(uid, token)
    if user is None:
        raise invalid_link
    new_password = normalize_password(new_password)
    _require_valid(new_password, user)
    encoded = make_password(new_password)
    with atomic_write():
        if not _replace_password(user, encoded, **_bound_to_link(user)):
            raise invalid_link
        Session.objects.filter(user=user).end()
        EmailChange.objects.filter(user=user, confirmed_at=None).delete()
        LoginThrottle(user.email).reset()
        _verify(user, request)
        LoginThrottle(user.email, client_address(request)).trust_address()
        password_changed(new_password, user)
        publish_account_event("password_reset", user=user, request=request)
        notice_send(user=user, notice="password_reset", request=request)


def account_secure(*, user: User, notice_id: str, request: AnyRequest) -> None:
    """End all sessions of ``user`` and enqueue a reset mail, once for each security notice.

    Also removes recently added passkeys and identities, which sign in without the password: those
    that may have come with the noticed change or after it; and a pending change of the address,
    which a user without a password confirms by its link alone. Without another way to sign in the
    user gets a random password, which the reset mail replaces. ``user`` and ``notice_id`` come from
    the notice's link. Does nothing the second time.
    """
    with atomic_write():
        # Not shared: a passkey that is just being added would stay.
        users = get_user_model().objects.select_for_update(no_key=True)
        current = users.filter(pk=user.pk).first()
        if current is None:
            raise CallerDeleted()
        _used, is_new = UsedToken.objects.get_or_create(
            token_id=notice_id, defaults={"expires_at": utc_now() + NOTICE_LINK_LIFETIME}
        )
        if is_new:
            sessions_end_others(user=current, keep=None, request=request)
            EmailChange.objects.filter(user=current, confirmed_at=None).delete()
            had_factor = has_second_factor(current)
            recently_added_remove(user=current, before=utc_now())
            if had_factor and not has_second_factor(current):
                publish_account_event("second_factor_disabled", user=current, request=request)
            if not count_sign_in_methods(current):
                password_disable(user=current)
            password_reset_request(email=current.email)


def _verify(user: User, request: AnyRequest) -> None:
    unverified = get_user_model().objects.filter(pk=user.pk, verified_at=None)
    if not unverified.filter(self_registered=True).update(verified_at=utc_now()):
        unverified.update(verified_at=utc_now())
        return
    other_access_remove(user=user, request=request)


def _bound_to_link(user: User) -> dict[str, Any]:
    # As in ResetTokens: what makes the link invalid once it changes.
    same = {"email_canonical": user.email_canonical}
    if user.self_registered and user.verified_at is None:
        return {**same, "verified_at": None, "self_registered": True}
    return {**same, "password": user.password}


def _replace_password(user: User, encoded: str, **same: Any) -> bool:
    # Compare-and-set: fails if a checked value has changed.
    same = {"pk": user.pk, "is_active": True, **same}
    return bool(get_user_model().objects.filter(**same).update(password=encoded))


def _require_valid(new_password: str, user: User) -> None:
    if problems := password_problems(new_password, user):
        raise ValidationError({"new_password": problems})
