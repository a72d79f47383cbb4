from django.db import migrations, models

from myometrics_core.db.migration_operations import AddFieldBriefly

from ..log.guards import remove_guards


def drop_guards(apps, schema_editor):
    """Drop the triggers that name the column; post_migrate creates them again without it."""
    remove_guards(schema_editor.connection.alias)


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_audit", "0002_labels"),
    ]

    operations = [
        AddFieldBriefly(
            model_name="auditlog",
            name="origin",
            field=models.CharField(
                blank=True,
                choices=[("client", "client"), ("server", "server"), ("import", "import")],
                editable=False,
                max_length=10,
                null=True,
                verbose_name="origin",
            ),
        ),
        migrations.RunPython(migrations.RunPython.noop, drop_guards),
    ]
