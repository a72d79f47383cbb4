"""Adds a column to the audit log, as a later release might."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("myometrics_audit", "0001_initial")]
    operations = [
        migrations.RunSQL(
            "ALTER TABLE myometrics_audit_auditlog ADD COLUMN note text",
            "ALTER TABLE myometrics_audit_auditlog DROP COLUMN note",
        )
    ]
