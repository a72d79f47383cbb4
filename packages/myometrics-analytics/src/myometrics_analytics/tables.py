"""Quoted names of tables, for the statements that Django's query language can't express."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Model

from .models import DailyRollup, DayRollup, PendingChange, RollupState, Upload, UserRollup

__all__ = ["tables", "user_table"]


def tables() -> dict[str, str]:
    """Our tables, by the names that the statements use."""
    return {
        "upload": _quoted(Upload),
        "pending": _quoted(PendingChange),
        "daily_rollup": _quoted(DailyRollup),
        "day_rollup": _quoted(DayRollup),
        "user_rollup": _quoted(UserRollup),
        "rollup_state": _quoted(RollupState),
    }


def user_table() -> dict[str, str]:
    """The table of the host's user model, and the column of its primary key."""
    user_model = get_user_model()
    return {
        "user": _quoted(user_model),
        "user_key": connection.ops.quote_name(str(user_model._meta.pk.column)),
    }


def _quoted(model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
