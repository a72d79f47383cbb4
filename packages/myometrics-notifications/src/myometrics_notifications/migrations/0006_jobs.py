from django.db import migrations, models
from django.utils import timezone

from myometrics_core.db.migration_operations import RemoveFieldBriefly

DELIVER = "myometrics_notifications.deliver"
EXPORT = "myometrics_notifications.export"


def move_pending_work(apps, schema_editor):
    """Write a job for each queued message and export, due when its next attempt was.

    Leases are kept: what a worker of the previous version is sending waits until they expire.
    """
    message, export, job = (
        apps.get_model(app, model)._meta.db_table
        for app, model in (
            ("myometrics_notifications", "Message"),
            ("myometrics_notifications", "ExportFile"),
            ("myometrics_core", "Job"),
        )
    )
    for kind, table, condition in (
        (DELIVER, message, "state = 'queued'"),
        (EXPORT, export, "state = 'queued' AND user_id IS NOT NULL"),
    ):
        schema_editor.execute(
            f"INSERT INTO {job} (kind, key, payload, state, run_at, attempts, claimed_until, "
            "run_again, last_error, request_id, created_at) "
            f"SELECT '{kind}', CAST(id AS varchar(200)), '{{}}', 'pending', next_attempt_at, "
            "attempts, leased_until, false, last_error, '', created_at "
            f"FROM {table} WHERE {condition}"
        )


def delete_jobs(apps, schema_editor):
    """Leave the pending work to the columns of the previous version, by which it is due now."""
    job = apps.get_model("myometrics_core", "Job")
    jobs = job.objects.using(schema_editor.connection.alias)
    jobs.filter(kind__in=(DELIVER, EXPORT)).delete()


def with_default(model_name):
    """Give the column a default, so that the migration can be reversed."""
    return migrations.AlterField(
        model_name=model_name,
        name="next_attempt_at",
        field=models.DateTimeField(default=timezone.now, verbose_name="next attempt"),
    )


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_core", "0001_initial"),
        ("myometrics_notifications", "0005_remove_due_indexes"),
    ]

    operations = [
        # These lock the tables until the end, so that nothing is queued after the move.
        RemoveFieldBriefly(model_name="message", name="lease_token"),
        RemoveFieldBriefly(model_name="exportfile", name="lease_token"),
        migrations.RunPython(move_pending_work, delete_jobs),
        with_default("message"),
        with_default("exportfile"),
        *(
            RemoveFieldBriefly(model_name=model_name, name=name)
            for model_name in ("message", "exportfile")
            for name in ("attempts", "next_attempt_at", "leased_until")
        ),
    ]
