"""The SQL of the counts: one statement of four parts, each from rollups or facts."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from django.db import connection
from django.db.models import F

from ..conf import analytics_settings
from ..filters import Filters, user_field
from .tables import tables

__all__ = ["report_sql"]

REPORT: Final = """
SELECT 'day' AS kind, day, '' AS diagnosis,
       CAST(SUM(uploads) AS BIGINT) AS uploads, CAST(SUM(completed) AS BIGINT) AS completed,
       CAST(SUM(failed) AS BIGINT) AS failed, CAST(SUM(processing_us) AS BIGINT) AS processing_us,
       CAST(SUM(processed) AS BIGINT) AS processed
FROM ({days}) AS days GROUP BY day
UNION ALL
SELECT 'diagnosis', NULL, diagnosis, uploads, uploads_before, 0, 0, 0 FROM (
  SELECT diagnosis, CAST(SUM(CASE WHEN day >= %(start)s THEN uploads ELSE 0 END) AS BIGINT)
                    AS uploads,
         CAST(SUM(CASE WHEN day < %(start)s THEN uploads ELSE 0 END) AS BIGINT) AS uploads_before
  FROM ({diagnoses}) AS diagnoses GROUP BY diagnosis
  HAVING SUM(CASE WHEN day >= %(start)s THEN uploads ELSE 0 END) > 0
  ORDER BY 2 DESC, diagnosis{by_code_point} LIMIT %(diagnoses_shown)s
) AS trends
UNION ALL
SELECT 'active', NULL, '', ({active}), 0, 0, 0, 0
UNION ALL
SELECT 'total', NULL, '', CAST(({total}) AS BIGINT), 0, 0, 0, 0
"""

BY_STATUS: Final = """
SELECT day, uploads, CASE WHEN status = 'completed' THEN uploads ELSE 0 END AS completed,
       CASE WHEN status = 'failed' THEN uploads ELSE 0 END AS failed, processing_us, processed
FROM ({source}) AS counted WHERE day BETWEEN %(first_of_months)s AND %(last_of_months)s
"""

DIAGNOSES: Final = """
SELECT day, diagnosis, uploads FROM ({source}) AS counted
WHERE diagnosis <> '' AND day BETWEEN %(previous_start)s AND %(today)s
"""

DAYS_FROM_ROLLUP: Final = """
SELECT day, uploads, completed, failed, processing_us, processed FROM {day_rollup}
WHERE day BETWEEN %(first_of_months)s AND %(last_of_months)s
UNION ALL
"""

FACTS: Final = """
SELECT fact.day, fact.diagnosis, fact.status, 1 AS uploads,
       COALESCE(fact.processing_us, 0) AS processing_us,
       CASE WHEN fact.processing_us IS NULL THEN 0 ELSE 1 END AS processed
FROM {counted} AS fact JOIN ({users}) AS site_user ON site_user.user_key = fact.user_id
"""

UPLOADED: Final = """
EXISTS (SELECT 1 FROM {counted} AS fact WHERE fact.user_id = site_user.user_key
        AND fact.uploaded_at >= %(start_moment)s AND fact.uploaded_at < %(end_moment)s{which})
"""

# The user's last day is sufficient, unless it is in the future or has pending changes.
UPLOADED_BY_ROLLUP: Final = """
CASE WHEN rollup.last_day > %(today)s
       OR site_user.user_key IN (SELECT user_id FROM {pending} WHERE user_id IS NOT NULL)
     THEN {uploaded} ELSE rollup.last_day >= %(start)s END
"""

ACTIVE: Final = """
SELECT COUNT(*) FROM ({users}) AS site_user
LEFT JOIN {user_rollup} AS rollup ON rollup.user_id = site_user.user_key
WHERE {signed_in} OR {uploaded}
"""

SIGNED_IN: Final = """
(site_user.signed_in >= %(start_moment)s AND site_user.signed_in < %(end_moment)s)
"""

TOTAL: Final = """
COALESCE((SELECT SUM(uploads) FROM {totals}), 0) + COALESCE((SELECT SUM(uploads) FROM {pending}), 0)
"""

TOTAL_OF_USERS: Final = """
COALESCE((SELECT SUM(rollup.uploads) FROM {user_rollup} AS rollup
          JOIN ({users}) AS site_user ON site_user.user_key = rollup.user_id), 0)
+ COALESCE((SELECT SUM(change.uploads) FROM {pending} AS change
            JOIN ({users}) AS site_user ON site_user.user_key = change.user_id), 0)
"""


def report_sql(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return the statement that counts the uploads matching ``filters``, and its parameters.

    The caller adds the parameters of the span: ``start``, ``today``, ``previous_start``,
    ``first_of_months``, ``last_of_months`` (dates), ``start_moment`` and ``end_moment``.
    """
    shown = {"diagnoses_shown": analytics_settings.DIAGNOSES_SHOWN}
    if not filters and analytics_settings.COUNT_CLIENT_REPORTED:
        return _unfiltered(connection.vendor), shown
    users, parameters = _users(filters)
    if filters.diagnosis is not None:
        parameters["diagnosis"] = filters.diagnosis
    return REPORT.format(**_filtered(filters, users)), {**parameters, **shown}


@lru_cache(maxsize=8)
def _unfiltered(vendor: str) -> str:
    users, _ = _users(Filters())
    pending = BY_STATUS.format(source="SELECT * FROM " + tables()["pending"])
    uploaded = UPLOADED.format(which="", **tables())
    return REPORT.format(
        days=DAYS_FROM_ROLLUP.format(**tables()) + pending,
        diagnoses=DIAGNOSES.format(source=_rolled_and_pending()),
        by_code_point=_by_code_point(),
        active=_active(users, UPLOADED_BY_ROLLUP.format(uploaded=uploaded, **tables())),
        total=TOTAL.format(totals=tables()["rollup_state"], **tables()),
    )


def _filtered(filters: Filters, users: str) -> dict[str, str]:
    which = " AND fact.diagnosis = %(diagnosis)s" if filters.diagnosis is not None else ""
    counts_all, names = bool(analytics_settings.COUNT_CLIENT_REPORTED), tables()
    if not counts_all:
        names["counted"] = names["confirmed"]
    if filters.selects_users or not counts_all:
        source = FACTS.format(users=users, **names) + which.replace("AND", "WHERE", 1)
    else:
        source = f"SELECT * FROM ({_rolled_and_pending()}) AS r WHERE diagnosis = %(diagnosis)s"
    if which or not counts_all:
        total = f"COALESCE((SELECT SUM(uploads) FROM ({source}) AS counted), 0)"
    else:
        total = TOTAL_OF_USERS.format(users=users, **names)
    return {
        "by_code_point": _by_code_point(),
        "days": BY_STATUS.format(source=source),
        "diagnoses": DIAGNOSES.format(source=source),
        "active": _active(users, UPLOADED.format(which=which, **names)),
        "total": total,
    }


def _by_code_point() -> str:
    """Collation that orders ties independently of the database's default collation."""
    return ' COLLATE "C"' if connection.vendor == "postgresql" else ""


def _rolled_and_pending() -> str:
    columns = "day, diagnosis, status, uploads, processing_us, processed"
    names = tables()
    return (
        f"SELECT {columns} FROM {names['daily_rollup']} "
        f"UNION ALL SELECT {columns} FROM {names['pending']}"
    )


def _active(users: str, uploaded: str) -> str:
    signed_in = SIGNED_IN if user_field("last_login") else "1 = 0"
    return ACTIVE.format(users=users, signed_in=signed_in, uploaded=uploaded, **tables())


def _users(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return a subselect of ``user_key`` and ``signed_in``, and its parameters.

    Built by the ORM, which resolves the columns of the configured user model.
    """
    columns = {"user_key": F("pk")}
    if user_field("last_login"):
        columns["signed_in"] = F("last_login")
    sql, values = filters.users().values(**columns).query.sql_with_params()
    names = [f"user_{position}" for position in range(len(values))]
    return sql % tuple(f"%({name})s" for name in names), dict(zip(names, values, strict=True))
