"""The same log, built the straightforward way: the specification's model, an index per column."""

from django.conf import settings
from django.db import models


class PlainColumns(models.Model):
    """The specification's AuditLog, word for word, with single-column indexes."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    action = models.CharField(max_length=50, db_index=True)
    resource_type = models.CharField(max_length=50, db_index=True)
    resource_id = models.CharField(max_length=100)
    timestamp = models.DateTimeField(auto_now_add=True, db_index=True)
    ip_address = models.GenericIPAddressField()
    user_agent = models.TextField()
    details = models.JSONField(default=dict)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.action


class PlainLog(PlainColumns):
    """A table of its own."""


class PlainEntries(PlainColumns):
    """The table of the package's entries, where a copy would not fit on the disk."""

    data_subject = models.CharField(max_length=100)

    class Meta:
        managed = False
        db_table = "myometrics_audit_auditlog"
