from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("myometrics_auth_federation", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="signinflow",
            name="authenticated_after",
            field=models.DateTimeField(
                blank=True,
                help_text="Set if the user has to sign in at the provider again.",
                null=True,
                verbose_name="sign-in required after",
            ),
        ),
    ]
