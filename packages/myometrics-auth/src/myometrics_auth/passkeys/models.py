"""Passkeys of users, and challenges that were not answered yet."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField, PortableDateTimeField
from myometrics_core.times import utc_now

MAX_CREDENTIAL_ID_LENGTH = 1364
"""Length of 1023 bytes, the maximum of WebAuthn, in base64url."""


class Attestation(models.TextChoices):
    """What is known about the model of an authenticator."""

    NONE = "none", _("not attested")
    DIRECT = "direct", _("attested")
    TRUSTED = "trusted", _("attested by a trusted certificate")


class Passkey(models.Model):
    """A public key credential of a user; the private key is in the user's authenticator."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="passkeys",
        verbose_name=_("user"),
    )
    name = PortableCharField(_("name"), max_length=64)
    credential_id = models.CharField(
        _("credential id"),
        max_length=MAX_CREDENTIAL_ID_LENGTH,
        unique=True,
        help_text=_("In base64url."),
    )
    public_key = models.BinaryField(_("public key"))
    sign_count = models.BigIntegerField(
        _("signature counter"),
        default=0,
        help_text=_("Of the last sign-in; 0 if the authenticator has no counter."),
    )
    aaguid = models.UUIDField(_("model (AAGUID)"))
    attestation = models.CharField(_("attestation"), max_length=10, choices=Attestation.choices)
    is_synced = models.BooleanField(
        _("synced"), help_text=_("Whether the authenticator may copy it to other devices.")
    )
    transports = models.JSONField(_("transports"), default=list)
    created_at = PortableDateTimeField(_("created at"), default=utc_now, editable=False)
    last_used_at = PortableDateTimeField(_("last used"), null=True, editable=False)

    class Meta:
        verbose_name = _("passkey")
        verbose_name_plural = _("passkeys")

    def __str__(self) -> str:
        return f"{self.user_id}: {self.pk}"  # the admin site's log keeps it, so it contains no name


class Purpose(models.TextChoices):
    """What a challenge may be used for."""

    REGISTER = "register", _("registration")
    SIGN_IN = "sign_in", _("sign-in")
    SECOND_FACTOR = "second_factor", _("second factor")


class PasskeyChallenge(models.Model):
    """A challenge for an authenticator, deleted by its first use.

    ``bound_to`` is the id of the session or sign-in that requested it. A challenge for a sign-in
    without a password belongs to no user.
    """

    challenge = models.CharField(_("challenge"), max_length=64, primary_key=True)
    purpose = models.CharField(_("purpose"), max_length=16, choices=Purpose.choices)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        related_name="+",
        verbose_name=_("user"),
    )
    bound_to = models.CharField(_("requested by"), max_length=64, blank=True)
    expires_at = PortableDateTimeField(_("expires"), db_index=True)

    class Meta:
        verbose_name = _("passkey challenge")
        verbose_name_plural = _("passkey challenges")

    def __str__(self) -> str:
        return f"{self.purpose}: {self.challenge[:8]}…"
