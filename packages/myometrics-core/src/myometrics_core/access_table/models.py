"""Model of the access table."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..model_fields import PortableCharField, PortableDateTimeField

__all__ = ["Access"]


class Access(models.Model):
    """One completed request.

    The user is stored as an id without a foreign key, so that an insert never waits for a lock on
    the user's row and never blocks the deletion of the user.
    """

    timestamp = PortableDateTimeField(_("timestamp"))
    user_id = PortableCharField(
        _("user id"), max_length=255, blank=True, help_text=_("Empty: nobody was signed in.")
    )
    ip_address = models.GenericIPAddressField(_("IP address"), null=True)
    address_key = models.CharField(
        _("address key"),
        max_length=32,
        blank=True,
        help_text=_("Keyed hash of the address, to find it by."),
    )
    method = PortableCharField(_("method"), max_length=16)
    endpoint = PortableCharField(
        _("endpoint"), max_length=255, help_text=_("The route, never the path.")
    )
    status = models.PositiveSmallIntegerField(_("status"))
    milliseconds = models.PositiveIntegerField(_("milliseconds"))
    request_id = PortableCharField(_("request id"), max_length=64, blank=True)

    objects: ClassVar[models.Manager[Access]] = models.Manager()

    class Meta:
        verbose_name = _("access")
        verbose_name_plural = _("accesses")
        indexes = [
            models.Index(fields=["timestamp"], name="myometrics_access_time"),
            models.Index(fields=["user_id", "id"], name="myometrics_access_user"),
            models.Index(fields=["address_key", "id"], name="myometrics_access_address"),
        ]

    def __str__(self) -> str:
        return f"{self.method} {self.endpoint} {self.status}"
