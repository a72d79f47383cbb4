import django.db.models.deletion
import django.utils.timezone
import myometrics_auth.model_fields
import myometrics_auth.models.users
import myometrics_core.times
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        # Where the host's own user model is not this app's: it comes first.
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="User",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("password", models.CharField(max_length=128, verbose_name="password")),
                (
                    "last_login",
                    models.DateTimeField(blank=True, null=True, verbose_name="last login"),
                ),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                (
                    "is_staff",
                    models.BooleanField(
                        default=False,
                        help_text="Designates whether the user can log into this admin site.",
                        verbose_name="staff status",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Designates whether this user should be treated as active. Unselect this instead of deleting accounts.",
                        verbose_name="active",
                    ),
                ),
                (
                    "date_joined",
                    models.DateTimeField(
                        default=django.utils.timezone.now, verbose_name="date joined"
                    ),
                ),
                (
                    "first_name",
                    models.CharField(blank=True, max_length=30, verbose_name="first name"),
                ),
                (
                    "last_name",
                    models.CharField(blank=True, max_length=30, verbose_name="last name"),
                ),
                (
                    "email",
                    myometrics_auth.model_fields.StoredEmailField(
                        max_length=254, unique=True, verbose_name="e-mail address"
                    ),
                ),
                (
                    "email_canonical",
                    myometrics_auth.model_fields.CanonicalEmailField(
                        editable=False, max_length=512, unique=True
                    ),
                ),
                (
                    "role",
                    models.CharField(
                        choices=[
                            ("admin", "Administrator"),
                            ("doctor", "Doctor"),
                            ("technician", "Technician"),
                        ],
                        default="doctor",
                        max_length=20,
                        verbose_name="role",
                    ),
                ),
                (
                    "clinic_name",
                    models.CharField(blank=True, max_length=100, verbose_name="clinic"),
                ),
                (
                    "search_text",
                    myometrics_auth.model_fields.UserSearchField(default="", editable=False),
                ),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of their groups.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "verbose_name": "user",
                "verbose_name_plural": "users",
                "abstract": False,
                "swappable": "AUTH_USER_MODEL",
            },
            managers=[
                ("objects", myometrics_auth.models.users.UserManager()),
            ],
        ),
        migrations.CreateModel(
            name="TotpDevice",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="totp_device",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("secret", models.TextField(help_text="Encrypted.")),
                (
                    "created_at",
                    models.DateTimeField(default=myometrics_core.times.utc_now, editable=False),
                ),
                ("confirmed_at", models.DateTimeField(blank=True, null=True)),
                (
                    "last_used_step",
                    models.BigIntegerField(
                        default=0,
                        help_text="Time step of the last code taken: no code counts twice.",
                    ),
                ),
            ],
            options={
                "verbose_name": "authenticator app",
                "verbose_name_plural": "authenticator apps",
            },
        ),
        migrations.CreateModel(
            name="PasswordResetRequest",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("email_canonical", models.CharField(max_length=512)),
                (
                    "created_at",
                    models.DateTimeField(default=myometrics_core.times.utc_now, editable=False),
                ),
                ("claimed_at", models.DateTimeField(blank=True, null=True)),
            ],
            options={
                "verbose_name": "password reset request",
                "verbose_name_plural": "password reset requests",
                "indexes": [models.Index(fields=["created_at"], name="mm_reset_created_at")],
            },
        ),
        migrations.CreateModel(
            name="RecoveryCode",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("code_hash", models.CharField(max_length=64)),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="recovery_codes",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "recovery code",
                "verbose_name_plural": "recovery codes",
            },
        ),
        migrations.CreateModel(
            name="Session",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "created_at",
                    models.DateTimeField(
                        default=myometrics_core.times.utc_now,
                        editable=False,
                        verbose_name="signed in",
                    ),
                ),
                (
                    "refreshed_at",
                    models.DateTimeField(
                        default=myometrics_core.times.utc_now, verbose_name="last seen"
                    ),
                ),
                ("expires_at", models.DateTimeField(verbose_name="expires")),
                ("ended_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "address",
                    models.GenericIPAddressField(blank=True, null=True, verbose_name="address"),
                ),
                ("user_agent", models.CharField(blank=True, max_length=512, verbose_name="device")),
                (
                    "second_factor",
                    models.BooleanField(default=False, verbose_name="with a second factor"),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="sessions",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={
                "verbose_name": "session",
                "verbose_name_plural": "sessions",
            },
        ),
        migrations.CreateModel(
            name="SignInFailures",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("failures", models.PositiveIntegerField(default=0)),
                ("judged_at", models.DateTimeField(help_text="When an attempt was last judged.")),
            ],
            options={
                "verbose_name": "failed sign-ins",
                "verbose_name_plural": "failed sign-ins",
                "indexes": [models.Index(fields=["judged_at"], name="mm_failures_judged_at")],
            },
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(fields=["role", "id"], name="mm_user_role_id"),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(fields=["is_active", "id"], name="mm_user_active_id"),
        ),
        migrations.AddIndex(
            model_name="recoverycode",
            index=models.Index(fields=["user", "code_hash"], name="mm_recovery_user_hash"),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(fields=["expires_at"], name="mm_session_expires_at"),
        ),
        migrations.AddIndex(
            model_name="session",
            index=models.Index(fields=["ended_at"], name="mm_session_ended_at"),
        ),
    ]
