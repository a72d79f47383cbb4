from django.db import migrations


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("myometrics_audit", "0007_auditlog_subject_index"),
    ]

    operations = [
        migrations.CreateModel(
            name="AccessReport",
            fields=[],
            options={
                "verbose_name": "access report",
                "verbose_name_plural": "access reports",
                "permissions": [("view_access_report", "Can view access reports")],
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("myometrics_audit.auditlog",),
        ),
    ]
