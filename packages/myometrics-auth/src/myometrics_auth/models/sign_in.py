"""Sessions, which make tokens revocable, known devices, second factors, used tokens, failures."""

from __future__ import annotations

import logging
import uuid
from contextlib import nullcontext
from datetime import datetime, timedelta
from functools import partial
from importlib import import_module

from django.conf import settings
from django.db import models, router, transaction
from django.utils.translation import gettext_lazy as _

from myometrics_auth.conf import auth_settings
from myometrics_auth.device_families import MAX_FAMILY_LENGTH
from myometrics_auth.encryption import UnreadableSecret, decrypt_secret, encrypt_secret
from myometrics_core.db import DATABASE_FAILURES, PortableCharField, PortableDateTimeField
from myometrics_core.times import utc_now

logger = logging.getLogger("myometrics.auth.django_sessions")
sessions_logger = logging.getLogger("myometrics.auth.sessions")

USE_INTERVAL = timedelta(minutes=1)
"""Interval at which uses of a session are recorded."""


class SessionQuerySet(models.QuerySet["Session"]):
    """Queries and bulk operations on sessions."""

    def live(self) -> SessionQuerySet:
        """Filter sessions that are neither ended nor expired nor idle."""
        return self.filter(_is_live())

    def over(self) -> SessionQuerySet:
        return self.exclude(_is_live())

    def idle(self) -> SessionQuerySet:
        """Filter open sessions that are unused for ``SESSION_IDLE_TIMEOUT``."""
        timeout = auth_settings.SESSION_IDLE_TIMEOUT
        if timeout is None:
            return self.none()
        return self.filter(ended_at=None).exclude(_is_used_since(utc_now() - timeout))

    def used_since(self, time: datetime) -> SessionQuerySet:
        return self.filter(_is_used_since(time))

    def unused_since(self, time: datetime) -> SessionQuerySet:
        return self.exclude(_is_used_since(time))

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

    ``last_used_at`` is written only if ``SESSION_IDLE_TIMEOUT`` is set. ``refresh_token_id`` is the
    ``jti`` of the only valid refresh token, ``NULL`` until the first rotation;
    ``previous_refresh_token_id`` is the one that it replaced at ``rotated_at``.
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

    last_used_at = PortableDateTimeField(_("last used"), null=True, editable=False)
    reauthenticated_at = PortableDateTimeField(_("reauthenticated"), null=True, editable=False)
    rotated_at = PortableDateTimeField(_("refresh token replaced"), null=True, editable=False)
    refresh_token_id = models.CharField(  # noqa: DJ001 (NULL: not rotated yet)
        _("id of the refresh token"), max_length=64, null=True, editable=False
    )
    previous_refresh_token_id = models.CharField(  # noqa: DJ001 (NULL: not rotated yet)
        _("id of the previous refresh token"), max_length=64, null=True, editable=False
    )

    objects = SessionQuerySet.as_manager()

    is_of_foreign_token = False
    """Whether the request's token is an identity provider's; set on authentication, not stored."""

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
    def last_seen_at(self) -> datetime:
        """The last refresh or recorded use."""
        return max(self.refreshed_at, self.last_used_at or self.refreshed_at)

    @property
    def is_live(self) -> bool:
        now, timeout = utc_now(), auth_settings.SESSION_IDLE_TIMEOUT
        is_idle = timeout is not None and self.last_seen_at <= now - timeout
        return self.ended_at is None and self.expires_at > now and not is_idle

    def record_use(self, timeout: timedelta | None = None) -> None:
        """Record that the session is in use, once a minute, for ``SESSION_IDLE_TIMEOUT``.

        ``timeout`` is a stricter one of this session. Without either there is no query. A database
        that can't be written is no error.
        """
        timeout = timeout or auth_settings.SESSION_IDLE_TIMEOUT
        if timeout is None:
            return
        now = utc_now()
        due = now - min(USE_INTERVAL, timeout / 2)
        if self.last_seen_at > due:
            return
        using = router.db_for_write(Session)
        # Within a transaction, a failure must not break it.
        is_inside = transaction.get_connection(using).in_atomic_block
        try:
            with transaction.atomic(using) if is_inside else nullcontext():
                unused = Session.objects.using(using).live().filter(pk=self.pk).unused_since(due)
                unused.update(last_used_at=now)
            self.last_used_at = now
        except DATABASE_FAILURES as error:
            sessions_logger.warning(
                "The use of a session is not recorded: %s", type(error).__name__
            )

    def encrypt_browser_key(self, key: str) -> str:
        return encrypt_secret(key, owner=f"session {self.pk}")

    def decrypt_browser_key(self) -> str:
        """Return the key of the Django session; raise ``UnreadableSecret``."""
        return decrypt_secret(self.browser_key or "", owner=f"session {self.pk}")


class KnownDevice(models.Model):
    """A family of devices on which a user has signed in; others cause a security notice."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="known_devices",
        verbose_name=_("user"),
    )
    family = models.CharField(_("device"), max_length=MAX_FAMILY_LENGTH, blank=True)
    last_seen_at = PortableDateTimeField(_("last sign-in"), default=utc_now)

    class Meta:
        verbose_name = _("known device")
        verbose_name_plural = _("known devices")
        constraints = [
            models.UniqueConstraint(fields=["user", "family"], name="mm_known_device_unique")
        ]
        indexes = [models.Index(fields=["last_seen_at"], name="mm_known_device_last_seen_at")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.family or '–'}"


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


def _is_live() -> models.Q:
    now, timeout = utc_now(), auth_settings.SESSION_IDLE_TIMEOUT
    is_live = models.Q(ended_at=None, expires_at__gt=now)
    return is_live if timeout is None else is_live & _is_used_since(now - timeout)


def _is_used_since(time: datetime) -> models.Q:
    return models.Q(refreshed_at__gt=time) | models.Q(last_used_at__gt=time)


def _delete_django_sessions(sessions: list[Session]) -> None:
    store = import_module(settings.SESSION_ENGINE).SessionStore()
    for session in sessions:
        try:
            store.delete(session.decrypt_browser_key())
        except UnreadableSecret:
            logger.warning("No key decrypts the Django session of session %s", session.pk)
