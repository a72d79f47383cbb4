from django.db import migrations
from django.utils import timezone

KIND = "myometrics_auth.send_password_reset"
BATCH = 1000


def move_to_jobs(apps, schema_editor):
    using = schema_editor.connection.alias
    requests = apps.get_model("myometrics_auth", "PasswordResetRequest").objects.using(using)
    Job = apps.get_model("myometrics_core", "Job")
    jobs = (
        Job(
            kind=KIND,
            key=str(request.pk),  # as release 0.1 names it to Celery
            payload={"email": request.email_canonical},
            run_at=request.created_at,
            created_at=request.created_at,
        )
        for request in requests.order_by("pk").iterator(chunk_size=BATCH)
    )
    Job.objects.using(using).bulk_create(jobs, batch_size=BATCH, ignore_conflicts=True)


def move_from_jobs(apps, schema_editor):
    using = schema_editor.connection.alias
    PasswordResetRequest = apps.get_model("myometrics_auth", "PasswordResetRequest")
    jobs = apps.get_model("myometrics_core", "Job").objects.using(using).filter(kind=KIND)
    PasswordResetRequest.objects.using(using).bulk_create(
        [
            PasswordResetRequest(
                email_canonical=job.payload["email"],
                created_at=min(job.created_at, timezone.now()),
            )
            for job in jobs.order_by("pk")
        ],
        batch_size=BATCH,
    )
    jobs.delete()


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_auth", "0006_failures_evaluated_at"),
        ("myometrics_core", "0001_initial"),
    ]

    operations = [
        migrations.RunPython(move_to_jobs, move_from_jobs, elidable=True),
        migrations.DeleteModel("PasswordResetRequest"),
    ]
