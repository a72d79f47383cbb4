"""A site's own model with portable fields."""

from django.db import models

from myometrics_core.db import PortableCharField, PortableDateTimeField


class Note(models.Model):
    written_at = PortableDateTimeField()
    text = PortableCharField(max_length=255)

    class Meta:
        app_label = "site_notes"
