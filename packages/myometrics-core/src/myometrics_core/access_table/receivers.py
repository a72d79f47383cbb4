"""What the table hears: people being deleted, by whatever way."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.db.models.signals import pre_delete

from .services import accesses_release_user

__all__ = ["connect"]


def connect() -> None:
    """Listen to deletions of the site's people, proxies of their model included."""
    user_model = get_user_model()
    proxies = [m for m in apps.get_models() if m._meta.proxy and issubclass(m, user_model)]
    for model in (user_model, *proxies):
        pre_delete.connect(
            _person_deleted,
            sender=model,
            dispatch_uid=f"myometrics_access_table:{model._meta.label}",
        )


def _person_deleted(instance: Any, **kwargs: Any) -> None:
    accesses_release_user(user=instance)
