"""Second factors, used one-time tokens and failed sign-ins."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_core.times import utc_now

__all__ = ["RecoveryCode", "SignInFailures", "TotpDevice", "UsedToken"]


class TotpDevice(models.Model):
    """A user's authenticator app (RFC 6238). It is required at sign-in once it is confirmed."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="totp_device",
    )
    secret = models.TextField(_("secret"), help_text=_("Encrypted."))
    created_at = models.DateTimeField(_("created at"), default=utc_now, editable=False)
    confirmed_at = models.DateTimeField(_("confirmed at"), null=True, blank=True)
    last_used_step = models.BigIntegerField(
        _("last used step"),
        default=0,
        help_text=_("Time step of the last code taken: no code counts twice."),
    )

    class Meta:
        verbose_name = _("authenticator app")
        verbose_name_plural = _("authenticator apps")

    def __str__(self) -> str:
        return f"{self.user_id}"


class RecoveryCode(models.Model):
    """A one-time replacement for the app's code; only a keyed hash is stored until it is used."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=models.CASCADE,
        related_name="recovery_codes",
    )
    code_hash = models.CharField(_("code hash"), max_length=64)

    class Meta:
        verbose_name = _("recovery code")
        verbose_name_plural = _("recovery codes")
        indexes = [models.Index(fields=["user", "code_hash"], name="mm_recovery_user_hash")]

    def __str__(self) -> str:
        return f"{self.user_id}"


class UsedToken(models.Model):
    """The id (``jti``) of a used one-time token, stored until the token expires."""

    token_id = models.CharField(_("token id"), max_length=64, primary_key=True)
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        verbose_name = _("used token")
        verbose_name_plural = _("used tokens")
        indexes = [models.Index(fields=["expires_at"], name="mm_used_token_expires_at")]

    def __str__(self) -> str:
        return self.token_id


class SignInFailures(models.Model):
    """Failed sign-ins of one account, known or unknown. Stores a hash, never the address."""

    key = models.CharField(_("key"), max_length=64, primary_key=True)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    evaluated_at = models.DateTimeField(
        _("last evaluated"),
        db_column="judged_at",
        help_text=_("When an attempt was last evaluated."),
    )

    class Meta:
        verbose_name = _("failed sign-ins")
        verbose_name_plural = _("failed sign-ins")
        indexes = [models.Index(fields=["evaluated_at"], name="mm_failures_judged_at")]

    def __str__(self) -> str:
        return f"{self.key[:8]}…: {self.failures}"
