from django.db import migrations, models

from myometrics_core.db.migration_operations import AddFieldBriefly


class Migration(migrations.Migration):
    dependencies = [("myometrics_auth", "0004_used_tokens_and_verified_addresses")]

    operations = [
        AddFieldBriefly(
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
