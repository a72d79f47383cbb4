from django.db import migrations, models

from myometrics_core.db.migration_operations import AddFieldBriefly


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_notifications", "0002_labels"),
    ]

    operations = [
        AddFieldBriefly(
            model_name="message",
            name="admitted_at",
            field=models.DateTimeField(
                editable=False,
                help_text="When it was counted among the mails of an hour.",
                null=True,
                verbose_name="admitted",
            ),
        ),
        AddFieldBriefly(
            model_name="message",
            name="summary_uuid",
            field=models.UUIDField(
                editable=False,
                help_text="Mail id of the summary it is part of.",
                null=True,
                verbose_name="summary",
            ),
        ),
        migrations.AlterField(
            model_name="message",
            name="state",
            field=models.CharField(
                choices=[
                    ("queued", "queued"),
                    ("sent", "sent"),
                    ("dropped", "dropped"),
                    ("dead", "dead letter"),
                    ("summarised", "in a summary"),
                ],
                default="queued",
                max_length=10,
                verbose_name="state",
            ),
        ),
    ]
