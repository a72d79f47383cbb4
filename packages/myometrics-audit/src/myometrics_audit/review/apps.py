"""App configuration of the review."""

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class ReviewConfig(AppConfig):
    """Registers the rules, the check, the jobs, the gauges and the examination of the review."""

    name = "myometrics_audit.review"
    label = "myometrics_audit_review"
    verbose_name = _("Review of the audit log")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from myometrics_core.conf import register_site_checks
        from myometrics_core.events import register_reserved_actions
        from myometrics_core.users import connect_user_deleted

        from .built_in_rules import FailedSignIns, register_rules, user_change_actions
        from .checks import register_checks
        from .doctor import register_examinations
        from .emergency_access import EMERGENCY_ACCESS_ENDED, EMERGENCY_ACCESS_GRANTED
        from .findings import FINDING_DECIDED, FINDING_OPENED
        from .gauges import register_gauges
        from .jobs import register_jobs
        from .reviews import REVIEW_SIGNED_OFF

        register_rules()
        register_checks()
        register_site_checks(self, app="myometrics_audit")
        register_gauges()
        register_examinations()
        register_jobs()
        register_reserved_actions(
            EMERGENCY_ACCESS_ENDED,
            EMERGENCY_ACCESS_GRANTED,
            FINDING_DECIDED,
            FINDING_OPENED,
            REVIEW_SIGNED_OFF,
            *FailedSignIns.ACTIONS,
            *user_change_actions(),
        )
        connect_user_deleted(_user_deleted, uid="myometrics_audit_review")


def _user_deleted(user: Any, using: str) -> None:
    from myometrics_core.users import lock_user_for_delete

    from .findings import findings_delete_user
    from .states import delete_user_states

    # An examination locks the user before it writes findings and states.
    lock_user_for_delete(user, using)
    findings_delete_user(user, using)
    delete_user_states(user, using)
