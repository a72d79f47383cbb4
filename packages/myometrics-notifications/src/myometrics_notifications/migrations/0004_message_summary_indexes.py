from django.db import migrations, models

from myometrics_core.db.migration_operations import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("myometrics_notifications", "0003_message_summary"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="message",
            index=models.Index(
                condition=models.Q(("admitted_at__isnull", False)),
                fields=["recipient", "admitted_at"],
                name="myo_notif_message_admitted",
            ),
        ),
        AddIndexConcurrently(
            model_name="message",
            index=models.Index(
                condition=models.Q(("summary_uuid__isnull", False)),
                fields=["summary_uuid"],
                name="myo_notif_message_summary",
            ),
        ),
    ]
