"""App configuration of passkeys."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class PasskeysConfig(AppConfig):
    """Registers passkeys as a second factor, their checks and job."""

    name = "myometrics_auth.passkeys"
    label = "myometrics_auth_passkeys"
    verbose_name = _("Passkeys")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_auth.second_factor_kinds import register_second_factor
        from myometrics_auth.services.reauthentication import register_reauthentication_method
        from myometrics_auth.sign_in_methods import register_sign_in_method
        from myometrics_core.conf import register_site_checks
        from myometrics_core.events import register_reserved_actions
        from myometrics_core.jobs import register_job_kind

        from .checks import register_checks
        from .events import RESERVED_ACTIONS
        from .jobs import SweepChallenges
        from .passkey_factor import PasskeyFactor, PasskeyMethod, PasskeySignIn

        register_checks()
        register_site_checks(self, app="myometrics_auth")
        register_second_factor(PasskeyFactor())
        register_reauthentication_method(PasskeyMethod())
        register_sign_in_method(PasskeySignIn())
        register_job_kind(SweepChallenges())
        register_reserved_actions(*RESERVED_ACTIONS)
