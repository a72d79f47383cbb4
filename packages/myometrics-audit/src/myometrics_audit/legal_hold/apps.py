"""App configuration of legal holds."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class LegalHoldConfig(AppConfig):
    """Lets erasures keep held entries, and exports and erases holds that name a user."""

    name = "myometrics_audit.legal_hold"
    label = "myometrics_audit_legal_hold"
    verbose_name = _("Legal holds")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.events import register_reserved_actions
        from myometrics_core.personal_data import register_personal_data

        from ..sealing.holds import register_holds
        from .held_entries import HeldEntries
        from .personal_data import LegalHoldsSection
        from .services import LEGAL_HOLD_PLACED, LEGAL_HOLD_RELEASED

        register_holds(HeldEntries())
        register_reserved_actions(LEGAL_HOLD_PLACED, LEGAL_HOLD_RELEASED)
        register_personal_data(LegalHoldsSection())
