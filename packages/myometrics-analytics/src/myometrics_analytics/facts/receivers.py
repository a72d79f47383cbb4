"""Receivers for upload events and for the deletion of users."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.auth.base_user import AbstractBaseUser

from myometrics_core.events import Event, register_receiver
from myometrics_core.users import connect_user_deleted

from .event_conversion import RESOURCE_TYPE, convert_event
from .services import uploads_delete, uploads_merge

__all__ = ["connect_receivers"]


def connect_receivers() -> None:
    """Register the receivers for upload events and for the deletion of users."""
    register_receiver(
        "myometrics_analytics",
        lambda event: _receive_events([event]),
        resource_types=frozenset({RESOURCE_TYPE}),
        catch_up="manage.py analytics_rebuild",
        batch_receiver=_receive_events,
    )
    connect_user_deleted(_user_deleted, uid="myometrics_analytics")


def _receive_events(events: Sequence[Event]) -> None:
    if upload_events := [found for event in events if (found := convert_event(event))]:
        uploads_merge(events=upload_events)


def _user_deleted(user: AbstractBaseUser, using: str) -> None:
    uploads_delete(user=user)
