"""The models and their migration agree, on every supported Django."""

from django.core.management import call_command


def test_no_migration_is_missing(db):
    call_command("makemigrations", "myometrics_notifications", check=True, dry_run=True)
