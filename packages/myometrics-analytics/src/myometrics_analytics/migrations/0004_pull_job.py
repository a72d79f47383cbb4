"""Move the due time and the failures of pulls to the job queue; plain labels."""

from django.db import migrations, models
from django.utils import timezone

JOB = {"kind": "myometrics_analytics.pull", "key": "", "state": "pending"}


def move_to_job(apps, schema_editor):
    using = schema_editor.connection.alias
    state = apps.get_model("myometrics_analytics", "PullState").objects.using(using).first()
    if state is not None:
        apps.get_model("myometrics_core", "Job").objects.using(using).get_or_create(
            **JOB,
            defaults={
                "run_at": state.due_at or timezone.now(),
                "attempts": state.failures,
                "last_error": state.last_error[:200],
            },
        )


def move_to_state(apps, schema_editor):
    using = schema_editor.connection.alias
    jobs = apps.get_model("myometrics_core", "Job").objects.using(using).filter(**JOB)
    for job in jobs:
        apps.get_model("myometrics_analytics", "PullState").objects.using(using).update_or_create(
            pk=1,
            defaults={
                "due_at": job.run_at,
                "failures": job.attempts,
                "last_error": job.last_error,
            },
        )
    jobs.delete()


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_analytics", "0003_client_reports"),
        ("myometrics_core", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(move_to_job, move_to_state),
        migrations.RemoveField(model_name="pullstate", name="due_at"),
        migrations.RemoveField(model_name="pullstate", name="failures"),
        migrations.RemoveField(model_name="pullstate", name="last_error"),
        migrations.RemoveField(model_name="pullstate", name="leased_until"),
        migrations.AlterModelOptions(
            name="userrollup",
            options={"verbose_name": "user rollup", "verbose_name_plural": "user rollups"},
        ),
        migrations.AlterField(
            model_name="dayrollup",
            name="uploaders",
            field=models.BigIntegerField(default=0, verbose_name="uploading users"),
        ),
        migrations.AlterField(
            model_name="rebuildcheckpoint",
            name="activities",
            field=models.BigIntegerField(default=0, verbose_name="events"),
        ),
        migrations.AlterField(
            model_name="rebuildcheckpoint",
            name="began_at",
            field=models.DateTimeField(verbose_name="first event"),
        ),
        migrations.AlterField(
            model_name="rebuildcheckpoint",
            name="reached_at",
            field=models.DateTimeField(verbose_name="events replayed up to"),
        ),
    ]
