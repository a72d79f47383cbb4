from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("myometrics_auth", "0005_session_browser_key")]

    operations = [
        migrations.SeparateDatabaseAndState(  # the column stays
            state_operations=[
                migrations.RemoveIndex(model_name="signinfailures", name="mm_failures_judged_at"),
                migrations.RenameField(
                    model_name="signinfailures", old_name="judged_at", new_name="evaluated_at"
                ),
                migrations.AlterField(
                    model_name="signinfailures",
                    name="evaluated_at",
                    field=models.DateTimeField(
                        db_column="judged_at",
                        help_text="When an attempt was last evaluated.",
                        verbose_name="last evaluated",
                    ),
                ),
                migrations.AddIndex(
                    model_name="signinfailures",
                    index=models.Index(fields=["evaluated_at"], name="mm_failures_judged_at"),
                ),
            ],
        ),
    ]
