from django.db import migrations

from myometrics_core.db.table_locks import alter_with_short_locks

# Sealing a leaf leaves a dead entry in the index that lists read to find unsealed leaves. By
# default PostgreSQL removes these after changes of a fifth of the table. Workers cost more than
# reading the few unsealed leaves; statistics that are older than the last seal suggest them.
PARAMETERS = {
    "autovacuum_vacuum_scale_factor": "0",
    "autovacuum_vacuum_threshold": "50000",
    "autovacuum_analyze_scale_factor": "0",
    "autovacuum_analyze_threshold": "200000",
    "vacuum_index_cleanup": "on",
    "parallel_workers": "0",
}


def vacuum_often(apps, schema_editor):
    change_parameters(apps, schema_editor, "SET", [f"{k} = {v}" for k, v in PARAMETERS.items()])


def vacuum_by_default(apps, schema_editor):
    change_parameters(apps, schema_editor, "RESET", list(PARAMETERS))


def change_parameters(apps, schema_editor, verb, parameters):
    if schema_editor.connection.vendor != "postgresql":
        return
    table = schema_editor.quote_name(apps.get_model("myometrics_audit", "leaf")._meta.db_table)
    # Readers and writers don't wait behind this lock, only VACUUM and other migrations do.
    alter_with_short_locks(
        lambda: schema_editor.execute(f"ALTER TABLE {table} {verb} ({', '.join(parameters)})"),
        using=schema_editor.connection.alias,
        timeout_ms=2_000,
        attempts=10,
        pause_seconds=3.0,
        advice="run 'manage.py migrate' again",
    )


class Migration(migrations.Migration):
    dependencies = [
        ("myometrics_audit", "0007_auditlog_subject_index"),
    ]

    operations = [migrations.RunPython(vacuum_often, vacuum_by_default)]
