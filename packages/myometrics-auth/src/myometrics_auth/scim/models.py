"""Models of provisioning over SCIM: tokens, users as a provider sees them, groups."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField
from myometrics_core.times import utc_now

MAX_TOKENS = 2
"""Tokens of one provider that are accepted at the same time, for rotation without a gap."""


class ProvisioningToken(models.Model):
    """A bearer token of an identity provider; only its hash is stored."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.CharField(_("identity provider"), max_length=50)
    slot = models.PositiveSmallIntegerField(
        _("slot"), help_text=_("1 or 2: a provider has at most two tokens.")
    )
    token_hash = models.CharField(_("token hash"), max_length=64, unique=True)
    created_at = models.DateTimeField(_("created at"), default=utc_now, editable=False)
    expires_at = models.DateTimeField(_("expires"))
    used_at = models.DateTimeField(
        _("last used"), null=True, blank=True, help_text=_("To the hour.")
    )

    class Meta:
        verbose_name = _("SCIM token")
        verbose_name_plural = _("SCIM tokens")
        constraints = [
            models.UniqueConstraint(fields=["provider", "slot"], name="mm_scim_token_slot")
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.pk}"


class ProvisionedUser(models.Model):
    """A user whom a provider created, or matched by a filter, with the attributes it sent."""

    provider = models.CharField(_("identity provider"), max_length=50)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name=_("user"),
    )
    user_name = PortableCharField(_("user name"), max_length=254)
    user_name_folded = PortableCharField(max_length=512, editable=False)
    external_id = PortableCharField(_("external id"), max_length=254, blank=True)
    attributes = models.JSONField(_("attributes"), default=dict)
    is_created = models.BooleanField(
        _("created"), default=True, help_text=_("Otherwise the account existed before.")
    )
    created_at = models.DateTimeField(_("created at"), default=utc_now, editable=False)
    modified_at = models.DateTimeField(_("modified at"), default=utc_now)
    deleted_at = models.DateTimeField(
        _("deleted at"),
        null=True,
        blank=True,
        help_text=_("When the provider deleted the user; the account is deactivated."),
    )

    class Meta:
        verbose_name = _("provisioned user")
        verbose_name_plural = _("provisioned users")
        constraints = [
            models.UniqueConstraint(fields=["provider", "user"], name="mm_scim_user"),
            models.UniqueConstraint(
                fields=["provider", "user_name_folded"],
                condition=Q(deleted_at=None),
                name="mm_scim_user_name",
            ),
        ]
        indexes = [
            models.Index(fields=["provider", "external_id"], name="mm_scim_user_external"),
            models.Index(fields=["provider", "id"], name="mm_scim_user_page"),
            models.Index(
                fields=["provider", "user_name_folded"],
                condition=Q(deleted_at__isnull=False),
                name="mm_scim_user_deleted",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.user_id}"


class ProvisioningGroup(models.Model):
    """A group of a provider; some groups give a role, as the settings say."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    provider = models.CharField(_("identity provider"), max_length=50)
    display_name = PortableCharField(_("name"), max_length=254)
    display_name_folded = PortableCharField(max_length=512, editable=False)
    external_id = PortableCharField(_("external id"), max_length=254, blank=True)
    created_at = models.DateTimeField(_("created at"), default=utc_now, editable=False)
    modified_at = models.DateTimeField(_("modified at"), default=utc_now)
    version = models.PositiveIntegerField(_("version"), default=1)

    class Meta:
        verbose_name = _("group")
        verbose_name_plural = _("groups")
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "display_name_folded"], name="mm_scim_group_name"
            )
        ]
        indexes = [
            models.Index(fields=["provider", "external_id"], name="mm_scim_group_external"),
            models.Index(fields=["provider", "created_at", "id"], name="mm_scim_group_page"),
        ]

    def __str__(self) -> str:
        return f"{self.provider}: {self.display_name}"


class ProvisioningMembership(models.Model):
    """A user in a group."""

    group = models.ForeignKey(
        ProvisioningGroup,
        on_delete=models.CASCADE,
        related_name="memberships",
        verbose_name=_("group"),
    )
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="+",
        verbose_name=_("user"),
    )

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [models.UniqueConstraint(fields=["group", "user"], name="mm_scim_membership")]

    def __str__(self) -> str:
        return f"{self.group_id}: {self.user_id}"
