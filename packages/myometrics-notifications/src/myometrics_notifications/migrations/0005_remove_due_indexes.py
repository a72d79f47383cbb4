from django.db import migrations

from myometrics_core.db.migration_operations import RemoveIndexConcurrently


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("myometrics_notifications", "0004_message_summary_indexes"),
    ]

    operations = [
        RemoveIndexConcurrently(model_name="message", name="myo_notif_message_due"),
        RemoveIndexConcurrently(model_name="exportfile", name="myo_notif_export_due"),
    ]
