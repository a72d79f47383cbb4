from django.db import migrations, models


def limit_lock_wait(apps, schema_editor):
    """Fail rather than queue behind a long transaction, with every sign-in waiting behind us."""
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("SET LOCAL lock_timeout = '5s'")


class Migration(migrations.Migration):
    dependencies = [("myometrics_auth", "0003_labels")]

    operations = [
        migrations.RunPython(limit_lock_wait, migrations.RunPython.noop),
        migrations.AddField(
            model_name="session",
            name="browser_key",
            field=models.TextField(
                editable=False,
                help_text="Encrypted.",
                null=True,
                verbose_name="key of the Django session",
            ),
        ),
    ]
