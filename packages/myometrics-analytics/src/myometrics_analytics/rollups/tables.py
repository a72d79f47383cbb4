"""Quoted table names for raw SQL that the ORM can't express."""

from __future__ import annotations

from typing import Final

from django.contrib.auth import get_user_model
from django.db import connection
from django.db.models import Model

from ..models import (
    DailyRollup,
    DayRollup,
    LimitDecision,
    PendingChange,
    RollupState,
    Upload,
    UserRollup,
)

__all__ = ["tables", "user_table"]

WITHIN_LIMIT: Final = "(over_limit IS NULL OR NOT over_limit)"
CONFIRMED: Final = "(client_only IS NULL OR NOT client_only)"


def tables() -> dict[str, str]:
    """Return this package's tables by placeholder.

    ``counted`` selects the uploads that count, ``confirmed`` those that count if
    ``COUNT_CLIENT_REPORTED`` is off.
    """
    return {
        "upload": _quoted(Upload),
        "counted": f"(SELECT * FROM {_quoted(Upload)} WHERE {WITHIN_LIMIT})",
        "confirmed": f"(SELECT * FROM {_quoted(Upload)} WHERE {WITHIN_LIMIT} AND {CONFIRMED})",
        "decision": _quoted(LimitDecision),
        "pending": _quoted(PendingChange),
        "daily_rollup": _quoted(DailyRollup),
        "day_rollup": _quoted(DayRollup),
        "user_rollup": _quoted(UserRollup),
        "rollup_state": _quoted(RollupState),
    }


def user_table() -> dict[str, str]:
    """Return the table of the user model and the column of its primary key."""
    user_model = get_user_model()
    return {
        "user": _quoted(user_model),
        "user_key": connection.ops.quote_name(str(user_model._meta.pk.column)),
    }


def _quoted(model: type[Model]) -> str:
    return connection.ops.quote_name(model._meta.db_table)
