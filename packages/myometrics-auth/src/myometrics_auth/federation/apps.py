"""App configuration of the sign-in with identity providers."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FederationConfig(AppConfig):
    """Registers the authentication by tokens of providers, checks, jobs and personal data."""

    name = "myometrics_auth.federation"
    label = "myometrics_auth_federation"
    verbose_name = _("Identity providers")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.events import register_reserved_actions
        from myometrics_core.jobs import register_job_kind

        from .jobs import SendLinkMail, SweepFederation

        register_site_checks(self, app="myometrics_auth")
        register_reserved_actions("identity_linked", "identity_unlinked")
        register_job_kind(SendLinkMail())
        register_job_kind(SweepFederation())
        self._register_sign_in()
        self._register_personal_data()

    def _register_sign_in(self) -> None:
        from myometrics_auth.authentication import register_foreign_tokens
        from myometrics_auth.services.sign_in import second_step_details, second_step_done
        from myometrics_auth.sign_in_methods import register_sign_in_method

        from .bearers import authenticate_foreign_token
        from .identities import IdentitySignIn
        from .sign_in import find_second_step_details, remember_second_step

        register_foreign_tokens(authenticate_foreign_token)
        register_sign_in_method(IdentitySignIn())
        second_step_details.connect(find_second_step_details, dispatch_uid=self.label)
        second_step_done.connect(remember_second_step, dispatch_uid=self.label)

    def _register_personal_data(self) -> None:
        from myometrics_auth.models import register_linked_addresses
        from myometrics_core.personal_data import register_personal_data
        from myometrics_core.users import connect_user_deleted

        from .identities import linked_addresses
        from .personal_data import IdentitiesSection, user_identities_delete

        register_linked_addresses("identities", linked_addresses)
        register_personal_data(IdentitiesSection())
        connect_user_deleted(user_identities_delete, uid=self.label)
