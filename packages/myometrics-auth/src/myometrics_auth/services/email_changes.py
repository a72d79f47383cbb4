"""Change the e-mail address: confirmed at the new one, undone from the old one."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.account_links import email_change_of_link, undoable_change_of_link
from myometrics_auth.errors import InvalidToken
from myometrics_auth.events import publish_account_event
from myometrics_auth.jobs import SendEmailChange, SendEmailUndo
from myometrics_auth.models import AddressOwnership, EmailChange, Invitation, Session, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import email_problems, has_second_factor
from myometrics_core.api import CallerDeleted, link_not_valid
from myometrics_core.db import atomic_write
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email

from .login_throttle import LoginThrottle, login_throttle_erase
from .notices import notice_send
from .reauthentication import (
    ReauthenticationRequired,
    is_recent_sign_in,
    recent_sign_in_require,
)
from .second_factor import recently_added_remove, second_factor_remove
from .sessions import is_as_checked, is_over
from .users import email_conflicts_reported, unreserved_require
from .verification import other_access_remove, password_disable, password_require


def email_change_request(
    *, user: User, session: Session | None, email: str, password: str, request: AnyRequest
) -> None:
    """Mail a link to the new address, replacing an unconfirmed request.

    Users without a password sign in again first. Raises ``ValidationError`` on ``password`` (wrong,
    or refused by the login throttle) and on ``email`` (taken, or the user's own);
    ``PermissionDenied`` without a recent sign-in; and ``AuthenticationFailed`` if it has
    ended.
    """
    recent_sign_in_require(session=session, operation="change_email")
    if user.has_usable_password():
        password_require(user=user, password=password, request=request)
    elif not is_recent_sign_in(session):
        raise ReauthenticationRequired
    problems = email_problems(email, excluding=user)
    if canonical_email(email) == user.email_canonical:
        problems = [_("This is your address already.")]
    if problems:
        raise ValidationError({"email": problems})
    with atomic_write():
        current = _locked(user.pk)
        if current is None:
            raise CallerDeleted()
        if is_over(session):
            raise InvalidToken
        if not is_as_checked(current, user, password):
            raise ValidationError({"password": [_("The password is not right.")]})
        current.email_changes.filter(confirmed_at=None).delete()
        change = EmailChange.objects.create(user=current, old_email=current.email, new_email=email)
        enqueue(SendEmailChange.name, {"change": str(change.pk)})


def email_change_confirm(*, token: str, password: str, request: AnyRequest) -> User:
    """Change the address to the one whose mailbox the link was sent to; return the user.

    The account's password is required: an attacker could enter another user's address, who might
    follow the link and so verify it for the attacker's account. The old address is reserved, and
    gets a link to undo the change, the new one a notice.

    Raises ``NotFound`` for a link that is wrong, used or expired, and ``ValidationError`` on
    ``password`` and, if the address was taken since, ``email``.
    """
    change = email_change_of_link(token)
    user = change.user
    if user.has_usable_password():
        password_require(user=user, password=password, request=request)
    with email_conflicts_reported(change.new_email, excluding=user), atomic_write():
        current = _locked(user.pk)
        if current is None or not is_as_checked(current, user, password):
            raise link_not_valid()
        pending = EmailChange.objects.pending().filter(pk=change.pk)
        before = {
            "old_email": current.email,
            "old_canonical": current.email_canonical,
            "old_verified_at": current.verified_at,
        }
        if not pending.update(confirmed_at=utc_now(), **before):
            raise link_not_valid()
        _set_email(current, change.new_email)
        returned_to = current.email_changes.reserving(change.new_email).first()
        if returned_to is not None:
            # Back at an earlier address: no undo that leads to the addresses in between.
            _since(returned_to).delete()
            left = before["old_email"]
            notice_send(user=current, notice="email_changed", request=request, address=left)
        else:
            enqueue(SendEmailUndo.name, {"change": str(change.pk)})
        publish_account_event("email_changed", user=current, request=request)
        notice_send(user=current, notice="email_changed", request=request)
    return current


def email_change_undo(*, token: str, request: AnyRequest) -> User:
    """Restore the address before a change, by the link sent to it; return the user.

    The user who changed the address knew the password and may have set up more. So this ends all
    sessions, disables the password, and removes the second factors, linked identities, invitations
    and changes of the address made since the change was requested, and passkeys and identities
    added recently before. Other second factors from before are kept, unless the account was
    self-registered and the address never verified: the mailbox alone must not suffice.
    The user has never owned the addresses in between.

    Raises ``NotFound`` for a link that is wrong, used or expired, and ``ValidationError`` on
    ``email`` if the site's own code has given the address to another account.
    """
    change = undoable_change_of_link(token)
    user = change.user
    with email_conflicts_reported(change.old_email, excluding=user), atomic_write():
        current = _locked(user.pk)
        if current is None or not EmailChange.objects.undoable().filter(pk=change.pk).exists():
            raise link_not_valid()
        login_throttle_erase(current)
        if current.self_registered and change.old_verified_at is None:
            other_access_remove(user=current, request=request)
        else:
            had_factor = has_second_factor(current)
            second_factor_remove(user=current, since=change.requested_at)
            # A thief may have added what signs in by itself before the request.
            recently_added_remove(user=current, before=change.requested_at)
            if had_factor and not has_second_factor(current):
                publish_account_event("second_factor_disabled", user=current, request=request)
        password_disable(user=current)
        _since(change).delete()
        AddressOwnership.objects.annul(current.pk, since=change.confirmed_at or change.requested_at)
        Invitation.objects.filter(inviter=current, created_at__gte=change.requested_at).delete()
        _set_email(current, change.old_email)
        LoginThrottle(current.email).reset()
        publish_account_event("email_change_undone", user=current, request=request)
    return current


def _locked(user_id: Any) -> User | None:
    users = get_user_model().objects.select_for_update(no_key=True)
    found: User | None = users.filter(pk=user_id, is_active=True).first()
    return found


def _set_email(user: User, email: str) -> None:
    user.email, user.verified_at = email, utc_now()
    user.save(update_fields=["email", "verified_at"])
    unreserved_require(user)


def _since(change: EmailChange) -> QuerySet[EmailChange]:
    """Return ``change``, later changes of its user, and pending ones."""
    is_later = Q(confirmed_at=None) | Q(confirmed_at__gte=change.confirmed_at)
    return EmailChange.objects.filter(is_later, user=change.user_id)
