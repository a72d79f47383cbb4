"""Pending invitations, and changes of e-mail addresses with their undo."""

from __future__ import annotations

import uuid
from datetime import timedelta
from functools import partial
from typing import Final

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.crypto import get_random_string
from django.utils.translation import gettext_lazy as _

from myometrics_auth.model_fields import CanonicalEmailField, StoredEmailField
from myometrics_core.db import PortableCharField, PortableDateTimeField
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email

from .users import Role

CONFIRM_WITHIN: Final = timedelta(days=3)
"""How long the link to a new address works."""
UNDO_WITHIN: Final = timedelta(days=7)
"""How long a change can be undone, and the old address is reserved."""
EXPIRED_KEPT: Final = timedelta(days=30)
"""How long an expired invitation can be sent again."""

new_nonce = partial(get_random_string, 32)
"""Returns a random text that makes a link invalid once it is replaced."""


class InvitationQuerySet(models.QuerySet["Invitation"]):
    """Queries on invitations."""

    def open(self) -> InvitationQuerySet:
        return self.filter(expires_at__gt=utc_now())

    def sweepable(self) -> InvitationQuerySet:
        return self.filter(expires_at__lt=utc_now() - EXPIRED_KEPT)


class Invitation(models.Model):
    """A pending invitation to register; deleted when it is accepted or revoked.

    Its link contains ``nonce`` and is signed, so a reader of the database can't make one.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    email = StoredEmailField(_("e-mail address"))
    email_canonical = CanonicalEmailField(max_length=512, unique=True, editable=False)
    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.DOCTOR)
    clinic_name = PortableCharField(_("clinic"), max_length=100, blank=True)
    inviter = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="invitations",
        verbose_name=_("invited by"),
    )
    nonce = models.CharField(max_length=32, default=new_nonce, editable=False)
    created_at = PortableDateTimeField(_("created"), default=utc_now, editable=False)
    expires_at = PortableDateTimeField(_("expires"), editable=False)

    objects = InvitationQuerySet.as_manager()

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        indexes = [models.Index(fields=["expires_at"], name="mm_invitation_expires_at")]

    def __str__(self) -> str:
        return f"{self.pk}"  # the admin site's log keeps it, so it contains no address


class EmailChangeQuerySet(models.QuerySet["EmailChange"]):
    """Queries on changes of addresses."""

    def pending(self) -> EmailChangeQuerySet:
        """Return the changes whose new address can still be confirmed."""
        return self.filter(confirmed_at=None, requested_at__gt=utc_now() - CONFIRM_WITHIN)

    def undoable(self) -> EmailChangeQuerySet:
        """Return the changes that can still be undone."""
        return self.filter(confirmed_at__gt=utc_now() - UNDO_WITHIN)

    def reserving(self, email: str) -> EmailChangeQuerySet:
        """Return the changes that reserve ``email``, their old address."""
        return self.undoable().filter(old_canonical=canonical_email(email))

    def sweepable(self) -> EmailChangeQuerySet:
        now = utc_now()
        is_unconfirmed = Q(confirmed_at=None, requested_at__lte=now - CONFIRM_WITHIN)
        return self.filter(is_unconfirmed | Q(confirmed_at__lte=now - UNDO_WITHIN))


class EmailChange(models.Model):
    """A user's change of address: first pending, then confirmed; deleted when it is undone.

    ``old_canonical`` and ``old_verified_at`` are set by the confirmation.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="email_changes",
        verbose_name=_("user"),
    )
    old_email = StoredEmailField(_("old address"))
    old_canonical = PortableCharField(max_length=512, blank=True, db_index=True, editable=False)
    old_verified_at = models.DateTimeField(_("old address verified"), null=True)
    new_email = StoredEmailField(_("new address"))
    requested_at = PortableDateTimeField(_("requested"), default=utc_now)
    confirmed_at = models.DateTimeField(_("confirmed"), null=True)

    objects = EmailChangeQuerySet.as_manager()

    class Meta:
        verbose_name = _("change of address")
        verbose_name_plural = _("changes of address")
        indexes = [
            models.Index(fields=["requested_at"], name="mm_email_change_requested"),
            models.Index(fields=["confirmed_at"], name="mm_email_change_confirmed"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}"
