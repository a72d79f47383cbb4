from django.db import migrations, models

from myometrics_core.db import PortableDateTimeField
from myometrics_core.db.migration_operations import AddFieldBriefly

COLUMNS = {
    "last_used_at": PortableDateTimeField(editable=False, null=True, verbose_name="last used"),
    "reauthenticated_at": PortableDateTimeField(
        editable=False, null=True, verbose_name="reauthenticated"
    ),
    "rotated_at": PortableDateTimeField(
        editable=False, null=True, verbose_name="refresh token replaced"
    ),
    "refresh_token_id": models.CharField(
        editable=False, max_length=64, null=True, verbose_name="id of the refresh token"
    ),
    "previous_refresh_token_id": models.CharField(
        editable=False, max_length=64, null=True, verbose_name="id of the previous refresh token"
    ),
}


class Migration(migrations.Migration):
    dependencies = [("myometrics_auth", "0008_invitations_and_email_changes")]

    operations = [
        AddFieldBriefly(model_name="session", name=name, field=field)
        for name, field in COLUMNS.items()
    ]
