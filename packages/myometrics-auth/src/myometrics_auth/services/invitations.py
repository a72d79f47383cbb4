"""Invitations: administrators let others register, with a role and a clinic."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from django.db import IntegrityError
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import NotFound, PermissionDenied, ValidationError

from myometrics_auth.account_links import invitation_of_token
from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import RegistrationClosed
from myometrics_auth.events import publish_invitation_event
from myometrics_auth.jobs import SendInvitation
from myometrics_auth.models import Invitation, User
from myometrics_auth.models.addresses import new_nonce
from myometrics_auth.requests import AnyRequest, lock_caller
from myometrics_auth.selectors import email_problems, grantable_roles
from myometrics_core.api import IsAdministrator
from myometrics_core.db import atomic_write
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, is_administrator, lock_users_shared

INVITED = _("This address is invited already.")


def invitation_create(
    *, actor: User, email: str, role: str, clinic_name: str = "", request: AnyRequest | None
) -> Invitation:
    """Invite the owner of ``email`` to register; the mail is a job. Replaces an expired invitation.

    Raises ``PermissionDenied`` for an actor who is not an administrator, and if no one may
    register; ``ValidationError`` on ``email`` if it has an account or an invitation, and on
    ``role`` if it is above the actor's own.
    """
    _require_inviter(actor)
    problems = {"email": email_problems(email), "role": _role_problems(actor, role)}
    if any(problems.values()):
        raise ValidationError({field: found for field, found in problems.items() if found})
    try:
        with atomic_write():
            lock_caller(actor)
            same = Invitation.objects.filter(email_canonical=canonical_email(email))
            same.exclude(pk__in=same.open()).delete()
            invitation = Invitation.objects.create(
                email=email, role=role, clinic_name=clinic_name, inviter=actor, expires_at=_expiry()
            )
            _send(invitation, actor, request)
    except IntegrityError as error:
        if not Invitation.objects.filter(email_canonical=canonical_email(email)).exists():
            raise
        raise ValidationError({"email": [INVITED]}) from error
    return invitation


def invitation_resend(
    *, actor: User, invitation_id: uuid.UUID, request: AnyRequest | None
) -> Invitation:
    """Send a new link, also for an expired invitation; the old link stops working.

    The actor becomes the inviter. Raises ``NotFound``, and otherwise like
    :func:`invitation_create`.
    """
    _require_inviter(actor)
    with atomic_write():
        lock_caller(actor)
        invitation = _locked(invitation_id)
        problems = {
            "email": email_problems(invitation.email),
            "role": _role_problems(actor, invitation.role),
        }
        if any(problems.values()):
            raise ValidationError({field: found for field, found in problems.items() if found})
        invitation.inviter, invitation.nonce, invitation.expires_at = actor, new_nonce(), _expiry()
        invitation.save(update_fields=["inviter", "nonce", "expires_at"])
        _send(invitation, actor, request)
    return invitation


def invitation_revoke(*, actor: User, invitation_id: uuid.UUID, request: AnyRequest | None) -> None:
    """Delete an invitation, so that its link stops working; raise ``NotFound``."""
    with atomic_write():
        lock_caller(actor)
        invitation = _locked(invitation_id)
        publish_invitation_event(
            "invitation_revoked", invitation=invitation, actor=actor, request=request
        )
        invitation.delete()


def invitation_check(token: str, *, email: str) -> Invitation:
    """Return the invitation of a link to ``email``, which is not locked.

    Raises ``ValidationError`` on ``invitation`` if the link is wrong, expired, used or revoked, or
    the inviter may not give the role any more; on ``email`` for another address.
    """
    invitation = invitation_of_token(token)
    if invitation is None or not _still_counts(invitation):
        raise ValidationError({"invitation": [_("The invitation is invalid or has expired.")]})
    if canonical_email(email) != invitation.email_canonical:
        raise ValidationError({"email": [_("The invitation is for another address.")]})
    return invitation


def invitation_accept(*, invitation: Invitation, user: User) -> None:
    """Use up ``invitation`` for ``user``, who is saved afterwards, in the caller's transaction.

    Raises ``ValidationError`` on ``invitation`` if it was used, revoked or sent again since, or the
    inviter may not give the role any more.
    """
    lock_users_shared([invitation.inviter_id])
    same = Invitation.objects.open().filter(pk=invitation.pk, nonce=invitation.nonce)
    current = same.select_related("inviter").first()
    if current is None or not _still_counts(current) or not same.delete()[0]:
        raise ValidationError({"invitation": [_("The invitation is invalid or has expired.")]})
    user.role, user.clinic_name = invitation.role, invitation.clinic_name
    user.self_registered, user.verified_at = False, utc_now()


def _require_inviter(actor: User) -> None:
    if not is_administrator(actor):
        raise PermissionDenied(IsAdministrator.message)
    if auth_settings.REGISTRATION == "closed":
        raise RegistrationClosed


def _role_problems(inviter: User, role: str) -> list[Any]:
    if role in grantable_roles(inviter.role, is_superuser=inviter.is_superuser):
        return []
    return [_("You can't give a role above your own.")]


def _still_counts(invitation: Invitation) -> bool:
    # The inviter's current role counts: a former administrator can't invite.
    inviter = invitation.inviter
    return is_administrator(inviter) and not _role_problems(inviter, invitation.role)


def _locked(invitation_id: uuid.UUID) -> Invitation:
    found = Invitation.objects.select_for_update().filter(pk=invitation_id).first()
    if found is None:
        raise NotFound(_("There is no such invitation."))
    return found


def _expiry() -> datetime:
    return utc_now() + auth_settings.INVITATION_LIFETIME


def _send(invitation: Invitation, actor: User, request: AnyRequest | None) -> None:
    publish_invitation_event("user_invited", invitation=invitation, actor=actor, request=request)
    enqueue(SendInvitation.name, {"invitation": str(invitation.pk)})
