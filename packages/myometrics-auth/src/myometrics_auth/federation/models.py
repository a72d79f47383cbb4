"""Identities of users at providers, and the state of sign-ins with them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from myometrics_auth.models import AddressOwnership, Session
from myometrics_core.db import PortableCharField, atomic_write
from myometrics_core.times import utc_now

APP = "myometrics_auth_federation"
"""Explicit: without the installed app, its models would belong to auth."""


class Identity(models.Model):
    """A user's account at an identity provider, identified by issuer and subject.

    ``email`` is the address that the provider has verified, empty without one.
    """

    id = models.BigAutoField(primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="identities",
        verbose_name=_("user"),
    )
    issuer = PortableCharField(_("issuer"), max_length=255)
    subject = PortableCharField(_("subject"), max_length=255)
    provider = models.CharField(_("provider"), max_length=50)
    email = PortableCharField(_("verified e-mail address"), max_length=254, blank=True)
    created_at = models.DateTimeField(_("linked at"), default=utc_now, editable=False)

    class Meta:
        app_label = APP
        verbose_name = _("identity")
        verbose_name_plural = _("identities")
        constraints = [
            models.UniqueConstraint(fields=["issuer", "subject"], name="mm_identity_subject")
        ]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.provider}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; uploads under the address become the user's."""
        with atomic_write():
            super().save(*args, **kwargs)
            AddressOwnership.objects.follow([self.user_id])


class FederatedSession(models.Model):
    """A session that began with an identity, for logout by the provider.

    ``provider_session`` is the provider's ``sid``, empty if it sent none. ``is_of_bearer``: the
    session belongs to the provider's access tokens instead of ours.
    """

    session = models.OneToOneField(
        Session,
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="federated",
        verbose_name=_("session"),
    )
    identity = models.ForeignKey(
        Identity, on_delete=models.CASCADE, related_name="sessions", verbose_name=_("identity")
    )
    provider_session = PortableCharField(_("session of the provider"), max_length=255, blank=True)
    is_of_bearer = models.BooleanField(_("of a token of the provider"), default=False)

    class Meta:
        app_label = APP
        verbose_name = _("session of a provider")
        verbose_name_plural = _("sessions of providers")

    def __str__(self) -> str:
        return f"{self.session_id}"


class ForeignToken(models.Model):
    """An access token of a provider, after its first use; only a hash is stored.

    ``pending``: the holder of ``claim`` validates it until ``expires_at``. ``refused``: with the
    code ``refusal``, until ``expires_at``. ``accepted``: as ``session`` until ``expires_at``; an
    accepted token whose session was deleted stays refused. Deleted after ``kept_until``.
    """

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        ACCEPTED = "accepted", _("accepted")
        REFUSED = "refused", _("refused")

    token_hash = models.CharField(_("hash"), max_length=64, primary_key=True)
    state = models.CharField(_("state"), max_length=10, choices=State.choices)
    provider = models.CharField(_("provider"), max_length=50, blank=True)
    session = models.ForeignKey(
        Session,
        on_delete=models.SET_NULL,
        null=True,
        related_name="foreign_tokens",
        verbose_name=_("session"),
    )
    refusal = models.CharField(_("refusal"), max_length=30, blank=True)
    claim = models.CharField(_("claim"), max_length=32, blank=True)
    expires_at = models.DateTimeField(_("expires"))
    kept_until = models.DateTimeField(_("kept until"))

    class Meta:
        app_label = APP
        verbose_name = _("token of a provider")
        verbose_name_plural = _("tokens of providers")
        indexes = [models.Index(fields=["kept_until"], name="mm_foreign_token_kept")]

    def __str__(self) -> str:
        return f"{self.token_hash[:8]}…: {self.state}"


class SignInFlow(models.Model):
    """A sign-in at a provider that is not finished. Only hashes of its secrets are stored."""

    state_hash = models.CharField(_("hash of the state"), max_length=64, primary_key=True)
    flow_hash = models.CharField(_("hash of the flow"), max_length=64)
    provider = models.CharField(_("provider"), max_length=50)
    redirect_uri = models.TextField(_("redirect URI"))
    authenticated_after = models.DateTimeField(
        _("sign-in required after"),
        null=True,
        blank=True,
        help_text=_("Set if the user has to sign in at the provider again."),
    )
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        app_label = APP
        verbose_name = _("sign-in in progress")
        verbose_name_plural = _("sign-ins in progress")
        indexes = [models.Index(fields=["expires_at"], name="mm_sign_in_flow_expires")]

    def __str__(self) -> str:
        return f"{self.state_hash[:8]}…: {self.provider}"


class SecondStep(models.Model):
    """A sign-in with an identity that needs our second factor, by the ``jti`` of its token."""

    token_id = models.CharField(_("token id"), max_length=64, primary_key=True)
    identity = models.ForeignKey(Identity, on_delete=models.CASCADE, verbose_name=_("identity"))
    provider_session = PortableCharField(_("session of the provider"), max_length=255, blank=True)
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        app_label = APP
        verbose_name = _("second step")
        verbose_name_plural = _("second steps")

    def __str__(self) -> str:
        return self.token_id


class LinkRequest(models.Model):
    """A request to link an identity to the account of its address, confirmed by mail."""

    id = models.UUIDField(primary_key=True, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="link_requests",
        verbose_name=_("user"),
    )
    issuer = PortableCharField(_("issuer"), max_length=255)
    subject = PortableCharField(_("subject"), max_length=255)
    provider = models.CharField(_("provider"), max_length=50)
    email = PortableCharField(_("verified e-mail address"), max_length=254)
    created_at = models.DateTimeField(_("created at"), default=utc_now, editable=False)
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        app_label = APP
        verbose_name = _("request to link")
        verbose_name_plural = _("requests to link")
        indexes = [models.Index(fields=["expires_at"], name="mm_link_request_expires")]

    def __str__(self) -> str:
        return f"{self.user_id}: {self.provider}"


class ErasedIdentity(models.Model):
    """A keyed hash of an identity whose user was erased: its older tokens make no new account."""

    identity_hash = models.CharField(_("hash"), max_length=64, primary_key=True)
    erased_at = models.DateTimeField(_("erased at"))
    expires_at = models.DateTimeField(_("expires"))

    class Meta:
        app_label = APP
        verbose_name = _("erased identity")
        verbose_name_plural = _("erased identities")

    def __str__(self) -> str:
        return f"{self.identity_hash[:8]}…"
