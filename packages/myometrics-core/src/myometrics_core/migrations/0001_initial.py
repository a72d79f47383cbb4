import myometrics_core.times
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", models.CharField(max_length=100, verbose_name="kind")),
                (
                    "key",
                    models.CharField(
                        blank=True,
                        help_text="Unique per kind while pending.",
                        max_length=200,
                        verbose_name="key",
                    ),
                ),
                ("payload", models.JSONField(default=dict, verbose_name="payload")),
                (
                    "state",
                    models.CharField(
                        choices=[("pending", "pending"), ("dead", "dead letter")],
                        default="pending",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "run_at",
                    models.DateTimeField(default=myometrics_core.times.utc_now, verbose_name="due"),
                ),
                ("attempts", models.PositiveIntegerField(default=0, verbose_name="attempts")),
                (
                    "claimed_by",
                    models.UUIDField(editable=False, null=True, verbose_name="claimed by"),
                ),
                (
                    "claimed_until",
                    models.DateTimeField(editable=False, null=True, verbose_name="claimed until"),
                ),
                (
                    "run_again",
                    models.BooleanField(default=False, editable=False, verbose_name="run again"),
                ),
                (
                    "last_error",
                    models.CharField(blank=True, max_length=200, verbose_name="last error"),
                ),
                (
                    "request_id",
                    models.CharField(
                        blank=True, editable=False, max_length=64, verbose_name="request id"
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=myometrics_core.times.utc_now,
                        editable=False,
                        verbose_name="created",
                    ),
                ),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", "pending")),
                        fields=["kind", "run_at"],
                        name="myo_core_job_due",
                    )
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "pending")),
                        fields=("kind", "key"),
                        name="myo_core_job_pending",
                    )
                ],
            },
        ),
    ]
