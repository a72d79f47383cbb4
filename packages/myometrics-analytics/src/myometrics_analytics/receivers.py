"""What this package does when others act: uploads told of, people deleted."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models.signals import pre_delete

from myometrics_core.activities import Activity, register_receiver

from .services import uploads_forget, uploads_merge
from .upload_events import RESOURCE_TYPE, evidence_of

__all__ = ["connect_receivers", "receive_activity"]


def receive_activity(activity: Activity) -> None:
    """Merge what ``activity`` says of an upload into the facts."""
    evidence = evidence_of(activity)
    if evidence is not None:
        uploads_merge(evidence=[evidence])


def forget_person(instance: Any, **kwargs: Any) -> None:
    """Take a person's uploads out of every count, in the transaction that deletes the person."""
    uploads_forget(user=instance)


def connect_receivers() -> None:
    """Listen for activities about uploads, and for the deletion of people."""
    register_receiver(
        "myometrics_analytics",
        receive_activity,
        resource_types=frozenset({RESOURCE_TYPE}),
        catch_up="manage.py analytics_rebuild",
    )
    # A receiver without a sender would cost every model of the site its fast deletes.
    for model in apps.get_models():
        if issubclass(model, get_user_model()):
            pre_delete.connect(
                forget_person, sender=model, dispatch_uid=f"analytics_{model._meta.label}"
            )
