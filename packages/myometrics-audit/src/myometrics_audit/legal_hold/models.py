"""Legal holds. They are released, and never deleted."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField, PortableTextField

from ..log.models import OPTIONAL_LENGTHS
from ..log.user_fields import user_field

MAX_REASON_LENGTH = 1000


class LegalHold(models.Model):
    """Keeps the entries of a user or about a data subject until it is released."""

    user = user_field(_("user"), help_text=_("Keep the entries of what this user did."))
    data_subject = PortableCharField(
        _("data subject"),
        max_length=OPTIONAL_LENGTHS["data_subject"],
        blank=True,
        default="",
        help_text=_("Keep the entries about this data subject."),
    )
    # They replace the user in entries after the user's deletion.
    pseudonyms = models.JSONField(_("pseudonyms"), default=list, editable=False)
    reason = PortableTextField(_("reason"), max_length=MAX_REASON_LENGTH)
    placed_by = user_field(_("placed by"), editable=False)
    placed_at = models.DateTimeField(_("placed at"), default=timezone.now, editable=False)
    released_by = user_field(_("released by"), editable=False)
    released_at = models.DateTimeField(_("released at"), null=True, editable=False)

    objects: ClassVar[models.Manager[LegalHold]] = models.Manager()

    class Meta:
        verbose_name = _("legal hold")
        verbose_name_plural = _("legal holds")
        ordering = ["-placed_at", "-id"]
        permissions = [("release_legalhold", "Can release legal holds")]

    def __str__(self) -> str:
        return f"legal hold {self.pk}"
