"""Receivers for upload activities and for the deletion of users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from myometrics_core.events import Event, register_receiver
from myometrics_core.users import connect_user_deleted

from .services import uploads_forget, uploads_merge
from .upload_events import RESOURCE_TYPE, evidence_of

__all__ = ["connect_receivers", "receive_activities", "receive_activity"]


def receive_activity(activity: Event) -> None:
    """Merge ``activity`` into the upload facts."""
    receive_activities([activity])


def receive_activities(activities: Sequence[Event]) -> None:
    """Merge ``activities`` into the upload facts in one batch."""
    evidence = [item for item in map(evidence_of, activities) if item is not None]
    if evidence:
        uploads_merge(evidence=evidence)


def connect_receivers() -> None:
    """Register the receivers for upload activities and for the deletion of users."""
    register_receiver(
        "myometrics_analytics",
        receive_activity,
        resource_types=frozenset({RESOURCE_TYPE}),
        catch_up="manage.py analytics_rebuild",
        batch_receiver=receive_activities,
    )
    connect_user_deleted(_person_deleted, uid="myometrics_analytics")


def _person_deleted(user: Any, using: str) -> None:
    uploads_forget(user=user)
