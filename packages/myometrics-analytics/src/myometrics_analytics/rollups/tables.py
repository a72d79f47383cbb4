"""Quoted table names for raw SQL that the ORM can't express."""

from __future__ import annotations

from typing import Final

from django.contrib.auth import get_user_model
from django.db import connection

from ..models import (
    DailyRollup,
    DayRollup,
    LimitDecision,
    PendingChange,
    RollupState,
    Upload,
    UserRollup,
)

MODELS: Final = {
    "upload": Upload,
    "decision": LimitDecision,
    "pending": PendingChange,
    "daily_rollup": DailyRollup,
    "day_rollup": DayRollup,
    "user_rollup": UserRollup,
    "rollup_state": RollupState,
}


def tables() -> dict[str, str]:
    """Return this package's tables, the user table and its key's column by placeholder.

    ``counted`` selects the uploads that count, ``confirmed`` those that count if
    ``COUNT_CLIENT_REPORTED`` is off.
    """
    quote, user_meta = connection.ops.quote_name, get_user_model()._meta
    names = {name: quote(model._meta.db_table) for name, model in MODELS.items()}
    counted = f"SELECT * FROM {names['upload']} WHERE (over_limit IS NULL OR NOT over_limit)"
    return {
        **names,
        "counted": f"({counted})",
        "confirmed": f"({counted} AND (client_only IS NULL OR NOT client_only))",
        "user": quote(user_meta.db_table),
        "user_key": quote(str(user_meta.pk.column)),
    }
