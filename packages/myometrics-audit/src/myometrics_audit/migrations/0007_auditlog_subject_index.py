from django.db import migrations, models

from myometrics_core.db.migration_operations import AddIndexConcurrently


class Migration(migrations.Migration):
    # The index is built concurrently on PostgreSQL.
    atomic = False

    dependencies = [
        ("myometrics_audit", "0006_entry_version_2"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="auditlog",
            index=models.Index(
                condition=models.Q(("data_subject__gt", "")),
                fields=["data_subject", "timestamp", "id"],
                name="myo_audit_subject",
            ),
        ),
    ]
