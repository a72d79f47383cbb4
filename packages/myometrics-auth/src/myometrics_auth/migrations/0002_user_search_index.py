"""An index for parts of names and addresses, where the database has one to offer.

On PostgreSQL it needs the extension ``pg_trgm``, which a database's owner may create. Where that
is not allowed the search works without the index; ``manage.py migrate myometrics_auth 0001`` and
``manage.py migrate`` try again.
"""

import logging

from django.db import DatabaseError, migrations, transaction

INDEX = "mm_user_search_trgm"

logger = logging.getLogger("myometrics.auth.migrations")


def create_index(apps, schema_editor):
    user = apps.get_model("myometrics_auth", "User")
    if schema_editor.connection.vendor != "postgresql" or user._meta.swapped:
        return
    try:
        with transaction.atomic(using=schema_editor.connection.alias):
            schema_editor.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
            schema_editor.execute(
                f"CREATE INDEX {INDEX} ON {schema_editor.quote_name(user._meta.db_table)} "
                "USING gin (search_text gin_trgm_ops)"
            )
    except DatabaseError as error:
        logger.warning("No index for searching users (%s); the search works without.", error)


def drop_index(apps, schema_editor):
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(f"DROP INDEX IF EXISTS {INDEX}")


class Migration(migrations.Migration):
    dependencies = [("myometrics_auth", "0001_initial")]

    operations = [migrations.RunPython(create_index, drop_index)]
