"""App configuration of auth."""

from django.apps import AppConfig, apps
from django.utils.translation import gettext_lazy as _


class AuthConfig(AppConfig):
    """Registers settings, checks, jobs, personal data and signal receivers."""

    name = "myometrics_auth"
    label = "myometrics_auth"
    verbose_name = _("Accounts")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.contrib.auth.signals import user_logged_out

        from myometrics_core.conf import register_settings, register_site_checks
        from myometrics_core.events import register_reserved_actions
        from myometrics_core.jobs import register_job_kind
        from myometrics_core.personal_data import register_personal_data
        from myometrics_core.users import connect_user_deleted, register_address_owners

        from . import checks, schema  # noqa: F401  (registers the OpenAPI extensions)
        from .address_owners import VerifiedAddresses
        from .conf import auth_settings
        from .doctor import register_examinations
        from .events import RESERVED_ACTIONS
        from .jobs import (
            SendEmailChange,
            SendEmailUndo,
            SendInvitation,
            SendPasswordReset,
            SendSecurityNotice,
            SendVerification,
            Sweep,
        )
        from .personal_data import ProfileSection, user_data_delete
        from .services.browser import browser_logged_out

        register_settings(auth_settings)
        checks.register_checks()
        register_site_checks(self)
        register_examinations()
        for kind in (
            SendPasswordReset,
            SendVerification,
            SendInvitation,
            SendEmailChange,
            SendEmailUndo,
            SendSecurityNotice,
            Sweep,
        ):
            register_job_kind(kind())
        register_personal_data(ProfileSection())
        register_address_owners(VerifiedAddresses())
        register_reserved_actions(*RESERVED_ACTIONS)
        connect_user_deleted(user_data_delete, uid=self.label)
        user_logged_out.connect(browser_logged_out, dispatch_uid=self.label)
        if apps.is_installed("django.contrib.admin") and auth_settings.ADMIN_LOGIN:
            from .admin_site import use_auth_sign_in

            use_auth_sign_in()
