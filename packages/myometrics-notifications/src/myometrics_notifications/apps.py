"""App configuration of the notifications package."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class NotificationsConfig(AppConfig):
    """Registers the package's kinds, exports, checks and event subscribers."""

    name = "myometrics_notifications"
    label = "myometrics_notifications"
    verbose_name = _("Notifications")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_settings, register_site_checks
        from myometrics_core.events import register_receiver
        from myometrics_core.personal_data import register_export_delivery, register_personal_data

        from . import checks
        from .built_in_kinds import ADDITIONAL_KINDS, BUILT_IN_KINDS
        from .conf import notifications_settings
        from .doctor import register_examinations
        from .exports import export_request
        from .jobs import register_jobs
        from .kinds import RESOURCE_TYPES, register_kind
        from .personal_data import NotificationSettingsSection
        from .services import event_notify, events_notify

        register_settings(notifications_settings)
        checks.register_checks()
        register_site_checks(self)
        register_jobs()
        register_examinations()
        for kind in BUILT_IN_KINDS:
            register_kind(kind)
        chosen = notifications_settings.ADDITIONAL_KINDS
        for additional in ADDITIONAL_KINDS:
            # Not a list: the check of the setting reports it.
            if isinstance(chosen, list) and additional.name in chosen:
                register_kind(additional)
        register_receiver(
            "myometrics_notifications",
            event_notify,
            resource_types=RESOURCE_TYPES,
            batch_receiver=events_notify,
        )
        register_export_delivery("email", export_request)
        register_personal_data(NotificationSettingsSection())
