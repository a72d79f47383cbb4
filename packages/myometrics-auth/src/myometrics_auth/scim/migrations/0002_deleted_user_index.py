from django.db import migrations, models

from myometrics_core.db.migration_operations import AddIndexConcurrently


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("myometrics_scim", "0001_initial")]

    operations = [
        AddIndexConcurrently(
            model_name="provisioneduser",
            index=models.Index(
                fields=["provider", "user_name_folded"],
                condition=models.Q(deleted_at__isnull=False),
                name="mm_scim_user_deleted",
            ),
        )
    ]
