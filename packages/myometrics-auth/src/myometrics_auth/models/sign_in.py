"""Sessions, which make tokens revocable, second factors, used tokens and failed sign-ins."""

from __future__ import annotations

import logging
import uuid
from functools import partial
from importlib import import_module

from django.conf import settings
from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from myometrics_auth.encryption import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_core.db import PortableCharField, PortableDateTimeField
from myometrics_core.times import utc_now

__all__ = [
    "RecoveryCode",
    "Session",
    "SessionQuerySet",
    "SignInFailures",
    "TotpDevice",
    "UsedToken",
]

logger = logging.getLogger("myometrics.auth.django_sessions")


class SessionQuerySet(models.QuerySet["Session"]):
    """Queries and bulk operations on sessions."""

    def live(self) -> SessionQuerySet:
        return self.filter(ended_at=None, expires_at__gt=utc_now())

    def over(self) -> SessionQuerySet:
        return self.filter(models.Q(ended_at__isnull=False) | models.Q(expires_at__lte=utc_now()))

    def excluding(self, session: Session | None) -> SessionQuerySet:
        """Exclude ``session``; ``None`` excludes none."""
        return self if session is None else self.exclude(pk=session.pk)

    def end(self) -> int:
        """End open sessions; delete their Django sessions after commit. Return the number ended."""
        using = router.db_for_write(self.model)
        open_sessions = self.using(using).filter(ended_at=None)
        of_browsers = list(open_sessions.filter(browser_key__gt=""))  # neither empty nor NULL
        ended = open_sessions.update(ended_at=utc_now())
        if of_browsers:
            delete = partial(_delete_django_sessions, of_browsers)
            transaction.on_commit(delete, using=using, robust=True)
        return ended


class Session(models.Model):
    """One sign-in of a user on one device.

    Its id is the ``sid`` claim of its tokens. A sign-in to the admin site has a Django session
    instead of tokens: ``browser_key`` is the encrypted session key, empty where sessions are stored
    in cookies.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="sessions",
        verbose_name=_("user"),
    )
    created_at = PortableDateTimeField(_("signed in"), default=utc_now, editable=False)
    refreshed_at = PortableDateTimeField(_("last seen"), default=utc_now)
    expires_at = PortableDateTimeField(_("expires"))
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    user_agent = PortableCharField(_("device"), max_length=512, blank=True)
    second_factor = models.BooleanField(_("with a second factor"), default=False)
    browser_key = models.TextField(  # noqa: DJ001 (NULL: not a browser sign-in)
        _("key of the Django session"), null=True, editable=False, help_text=_("Encrypted.")
    )

    objects = SessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        indexes = [
            models.Index(fields=["expires_at"], name="mm_session_expires_at"),
            models.Index(fields=["ended_at"], name="mm_session_ended_at"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.user_agent or '–'}"

    @property
    def is_of_browser(self) -> bool:
        """Return whether this is a sign-in to the admin site, which has no tokens."""
        return self.browser_key is not None

    @property
    def is_live(self) -> bool:
        return self.ended_at is None and self.expires_at > utc_now()

    def encrypt_browser_key(self, key: str) -> str:
        return encrypt_secret(key, owner=f"session {self.pk}")

    def decrypt_browser_key(self) -> str:
        """Return the key of the Django session; raise ``UnreadableSecret``."""
        return decrypt_secret(self.browser_key or "", owner=f"session {self.pk}")


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


def _delete_django_sessions(sessions: list[Session]) -> None:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    for session in sessions:
        try:
            store.delete(session.decrypt_browser_key())
        except UnreadableSecret:
            logger.warning("No key decrypts the Django session of session %s", session.pk)
