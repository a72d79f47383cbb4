"""The log of the site."""

from myometrics_audit.models import AuditLog


def entries():
    """Return the action, data subject and resource id of all entries, in order."""
    rows = AuditLog.objects.order_by("id")
    return [(row.action, row.data_subject, row.resource_id) for row in rows]
