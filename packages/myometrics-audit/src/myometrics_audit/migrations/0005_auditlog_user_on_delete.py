import django.db.models
from django.conf import settings
from django.db import migrations

import myometrics_audit.log.user_deletion


class Migration(migrations.Migration):
    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("myometrics_audit", "0004_auditlog_resource_index"),
    ]

    # The column and its constraint stay as they are.
    operations = [
        migrations.AlterField(
            model_name="auditlog",
            name="user",
            field=django.db.models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=myometrics_audit.log.user_deletion.ERASE_OR_RETAIN,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
                verbose_name="user",
            ),
        ),
    ]
