from django.db import migrations, models

from myometrics_core.db.migration_operations import AddIndexConcurrently, RemoveIndexConcurrently


class Migration(migrations.Migration):
    # Indexes are built concurrently on PostgreSQL.
    atomic = False

    dependencies = [
        ("myometrics_audit", "0003_auditlog_origin"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="auditlog",
            index=models.Index(
                fields=["resource_id", "timestamp", "id"], name="myo_audit_resource_time"
            ),
        ),
        RemoveIndexConcurrently(model_name="auditlog", name="myo_audit_resource"),
    ]
