from django.db import migrations, models

from myometrics_core.db.migration_operations import AddFieldBriefly

from ..log.guards import remove_guards

TEXTS = {
    "data_subject": "data subject",
    "purpose": "purpose",
    "legal_basis": "legal basis",
}


def drop_guards(apps, schema_editor):
    """Drop the triggers that name the columns; post_migrate creates them again without these."""
    remove_guards(schema_editor.connection.alias)


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_audit", "0005_auditlog_user_on_delete"),
    ]

    # Nullable columns without a default: no row is read or rewritten.
    operations = [
        *(
            AddFieldBriefly(
                model_name="auditlog",
                name=name,
                field=models.CharField(
                    blank=True,
                    editable=False,
                    max_length=100,
                    null=True,
                    verbose_name=label,
                ),
            )
            for name, label in TEXTS.items()
        ),
        AddFieldBriefly(
            model_name="auditlog",
            name="actor",
            field=models.BinaryField(null=True, max_length=32, verbose_name="actor"),
        ),
        AddFieldBriefly(
            model_name="auditlog",
            name="actor_nonce",
            field=models.BinaryField(null=True, max_length=16, verbose_name="actor nonce"),
        ),
        AddFieldBriefly(
            model_name="leaf",
            name="version",
            field=models.SmallIntegerField(null=True, verbose_name="version"),
        ),
        # The columns stay as they are.
        migrations.AlterField(
            model_name="auditlog",
            name="nonce",
            field=models.BinaryField(max_length=32, verbose_name="nonce"),
        ),
        migrations.RunPython(migrations.RunPython.noop, drop_guards),
    ]
