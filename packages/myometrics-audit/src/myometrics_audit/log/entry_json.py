"""The API's format of an entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from myometrics_core.times import utc_text
from myometrics_core.users import user_id_json

LIST_COLUMNS = (
    "id",
    "user_id",
    "action",
    "resource_type",
    "resource_id",
    "timestamp",
    "ip_address",
    "user_agent",
    "details",
)
"""Columns of an entry in the API's list, in order."""

DETAIL_COLUMNS = (*LIST_COLUMNS, "origin")
"""Columns of a single entry in the API, and of exports."""


def entry_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a row of the log (columns by name) to the specification's format."""
    return {
        **row,
        "user_id": user_id_json(row["user_id"]),
        "timestamp": utc_text(row["timestamp"]),
    }
