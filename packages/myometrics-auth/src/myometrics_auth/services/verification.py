"""Verify e-mail addresses: by the page that a mail links to, and by resets.

A link proves access to the mailbox, not who registered the account. A user who can't enter the
account's password may not be the one who registered it, so every other access is removed; see the
decision record "Verify an address with the account's password, or take the account over".
"""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.account_links import user_of_verification_link
from myometrics_auth.events import publish_account_event
from myometrics_auth.jobs import SendVerification
from myometrics_auth.models import EmailChange, KnownDevice, Session, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.sign_in_methods import remove_sign_in_methods
from myometrics_core.api import link_not_valid
from myometrics_core.db import atomic_write
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email

from .login_throttle import login_throttle_erase, own_password_check
from .notices import notice_send
from .second_factor import second_factor_remove
from .sessions import is_as_checked


def verification_request(*, email: str) -> None:
    """Enqueue the mail. The job looks the address up, so that known ones take the same time."""
    enqueue(SendVerification.name, {"email": canonical_email(email)})


def email_verify(*, token: str, password: str, request: AnyRequest) -> User:
    """Verify the address of a mailed link; return the user.

    With the account's ``password`` nothing else changes. Without it, every other access to a
    self-registered account is removed, and its password is replaced by a random one: the owner of
    the mailbox sets a new one by a reset link. Other accounts keep everything.

    Raises ``NotFound`` for a link that is wrong, used or expired, and ``ValidationError`` on
    ``password``.
    """
    user = user_of_verification_link(token)
    if password:
        password_require(user=user, password=password, request=request)
    with atomic_write():
        users = get_user_model().objects.select_for_update(no_key=True)
        current = users.filter(pk=user.pk, email_canonical=user.email_canonical).first()
        if current is None or current.verified_at or not current.is_active:
            raise link_not_valid()
        if password and not is_as_checked(current, user, password):
            raise link_not_valid()
        if not password and current.self_registered:
            other_access_remove(user=current, request=request)
            password_disable(user=current)
        current.verified_at = utc_now()
        current.save(update_fields=["verified_at"])
        publish_account_event("email_verified", user=current, request=request)
    return current


def password_require(*, user: User, password: str, request: AnyRequest) -> None:
    """Raise ``ValidationError`` on ``password`` unless it is correct and not throttled."""
    if not own_password_check(user=user, password=password, request=request):
        raise ValidationError({"password": [_("The password is not right.")]})


def other_access_remove(*, user: User, request: AnyRequest | None) -> None:
    """Remove what else gives access to an account that another user may have registered.

    That is sessions, second factors, other ways to sign in, pending changes of the address, known
    devices, and the addresses that the login throttle trusts. The password is left to the
    caller, who has locked the user's row.
    """
    if has_second_factor(user):
        publish_account_event("second_factor_disabled", user=user, request=request)
        notice_send(user=user, notice="second_factor_disabled", request=request)
    second_factor_remove(user=user)
    remove_sign_in_methods(user)
    login_throttle_erase(user)
    EmailChange.objects.filter(user=user, confirmed_at=None).delete()
    sessions = Session.objects.filter(user=user)
    sessions.end()  # also deletes the Django sessions of browsers
    sessions.delete()
    KnownDevice.objects.filter(user=user).delete()


def password_disable(*, user: User) -> None:
    """Replace the password by a random one, which ends every session.

    Unlike an unusable password, a reset mail can replace it.
    """
    user.password = make_password(get_random_string(64))
    user.save(update_fields=["password"])
    Session.objects.filter(user=user).end()
