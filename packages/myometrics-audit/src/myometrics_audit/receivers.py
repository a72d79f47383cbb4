"""What audit hears: other packages' activities, people being deleted, tables being made."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import models
from django.db.backends.signals import connection_created
from django.db.models.signals import post_migrate, pre_delete

from myometrics_core.activities import Activity

from .activities import SOURCE
from .conf import audit_settings
from .erasures import entries_release_user
from .guards import allow_flush, install_guards
from .services import activity_record

__all__ = ["connect", "receive_activity"]


def receive_activity(activity: Activity) -> None:
    """Keep what another package published; what audit publishes is in the log already."""
    if activity.source != SOURCE:
        activity_record(activity)


def connect(sender: Any) -> None:
    """Connect everything; ``sender`` is audit's app configuration."""
    for model in _user_models():
        pre_delete.connect(
            _person_deleted, sender=model, dispatch_uid=f"myometrics_audit:{model._meta.label}"
        )
    post_migrate.connect(_migrated, sender=sender, dispatch_uid="myometrics_audit:guards")
    connection_created.connect(_connected, dispatch_uid="myometrics_audit:flush")


def _user_models() -> list[type[models.Model]]:
    # A listener without a sender would make Django load every entry of a cascade.
    user_model = get_user_model()
    proxies = [m for m in apps.get_models() if m._meta.proxy and issubclass(m, user_model)]
    return [user_model, *proxies]


def _person_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    entries_release_user(user=instance, using=using)


def _migrated(using: str, **kwargs: Any) -> None:
    install_guards(using)


def _connected(connection: Any, **kwargs: Any) -> None:
    if audit_settings.ALLOW_FLUSH:
        allow_flush(connection)
