"""App configuration."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class AnalyticsConfig(AppConfig):
    """Upload facts, their rollups and the endpoints based on them."""

    name = "myometrics_analytics"
    verbose_name = _("Analytics")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.db.models.signals import post_migrate

        from myometrics_core.conf import register_check, register_settings, register_site_checks
        from myometrics_core.doctor import register_examination
        from myometrics_core.events import register_receiver, register_reserved_actions
        from myometrics_core.jobs import register_job_kind
        from myometrics_core.personal_data import register_personal_data
        from myometrics_core.users import connect_address_owners_changed, connect_user_deleted

        from .checks import check_user_fields
        from .conf import analytics_settings
        from .doctor import examine_pull, examine_rollups
        from .facts.event_conversion import RESOURCE_TYPE, receive_events
        from .facts.services import uploads_delete
        from .gauges import register_gauges
        from .personal_data import UploadsSection
        from .pull.pulling import PullAllUploads, PullUploads, pull_all_enqueue
        from .rollups.folding import FoldChanges
        from .rollups.rebuild_hint import print_hint
        from .rollups.self_check import CheckRollups

        register_settings(analytics_settings)
        register_check(check_user_fields, app=self.name)
        register_site_checks(self, time_zone_id="E010")
        register_personal_data(UploadsSection())
        register_reserved_actions("analytics_viewed")
        register_receiver(
            self.name,
            lambda event: receive_events([event]),
            resource_types=frozenset({RESOURCE_TYPE}),
            catch_up="manage.py analytics_rebuild",
            batch_receiver=receive_events,
        )
        connect_user_deleted(lambda user, using: uploads_delete(user=user), uid=self.name)
        connect_address_owners_changed(pull_all_enqueue, uid=self.name)
        post_migrate.connect(print_hint, sender=self, dispatch_uid="myometrics_analytics:hint")
        for kind in (PullUploads(), PullAllUploads(), FoldChanges(), CheckRollups()):
            register_job_kind(kind)
        register_gauges()
        register_examination("rollups", examine_rollups, needs_database=True)
        register_examination("upload source", examine_pull, needs_database=True)
