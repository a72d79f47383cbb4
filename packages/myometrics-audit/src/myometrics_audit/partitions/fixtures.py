"""Fixtures with partitions: the database decides which ones exist."""

from __future__ import annotations

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_save

from .closing import match_catalog
from .models import Partition


def connect_fixtures() -> None:
    """Discard rows of partitions that the database does not have after ``loaddata``."""
    post_save.connect(_saved, sender=Partition, dispatch_uid="myometrics_audit:partitions")


def _saved(raw: bool, using: str, **kwargs: Any) -> None:
    if raw:
        transaction.on_commit(partial(match_catalog, using), using=using)
