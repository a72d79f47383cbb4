"""Counting uploads in one statement, which is one snapshot on every database.

Unfiltered counts come from the rollups and the pending changes; their cost depends on the number
of days. Filtered counts come from the facts of those days; if ``COUNT_CLIENT_REPORTED`` is off,
all counts do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, Final, NamedTuple

from django.db import connection, connections, router
from django.db.models import F

from myometrics_core.db import fetch_rows
from myometrics_core.times import utc_day_start

from ..conf import analytics_settings
from ..filters import Filters, user_field
from ..models import Upload
from ..periods import Span, as_date
from .tables import tables

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
SELECT day, uploads, completed, failed, processing_us, processed FROM {DayRollup}
WHERE day BETWEEN %(first_of_months)s AND %(last_of_months)s
UNION ALL
"""

FACTS: Final = """
SELECT fact.day, fact.diagnosis, fact.status, 1 AS uploads,
       COALESCE(fact.processing_us, 0) AS processing_us,
       CASE WHEN fact.processing_us IS NULL THEN 0 ELSE 1 END AS processed
FROM {counted} AS fact JOIN ({users}) AS site_user ON site_user.user_key = fact.user_id
"""

ROLLED_AND_PENDING: Final = """
SELECT day, diagnosis, status, uploads, processing_us, processed FROM {DailyRollup}
UNION ALL
SELECT day, diagnosis, status, uploads, processing_us, processed FROM {PendingChange}
"""

UPLOADED: Final = """
EXISTS (SELECT 1 FROM {counted} AS fact WHERE fact.user_id = site_user.user_key
        AND fact.uploaded_at >= %(start_moment)s AND fact.uploaded_at < %(end_moment)s{which})
"""

# The user's last day is sufficient, unless it is in the future or has pending changes.
UPLOADED_BY_ROLLUP: Final = """
CASE WHEN rollup.last_day > %(today)s
       OR site_user.user_key IN (SELECT user_id FROM {PendingChange} WHERE user_id IS NOT NULL)
     THEN {uploaded} ELSE rollup.last_day >= %(start)s END
"""

ACTIVE: Final = """
SELECT COUNT(*) FROM ({users}) AS site_user
LEFT JOIN {UserRollup} AS rollup ON rollup.user_id = site_user.user_key
WHERE {signed_in} OR {uploaded}
"""

SIGNED_IN: Final = """
(site_user.signed_in >= %(start_moment)s AND site_user.signed_in < %(end_moment)s)
"""

TOTAL: Final = """
COALESCE((SELECT SUM(uploads) FROM {RollupState}), 0)
+ COALESCE((SELECT SUM(uploads) FROM {PendingChange}), 0)
"""

TOTAL_OF_USERS: Final = """
COALESCE((SELECT SUM(rollup.uploads) FROM {UserRollup} AS rollup
          JOIN ({users}) AS site_user ON site_user.user_key = rollup.user_id), 0)
+ COALESCE((SELECT SUM(change.uploads) FROM {PendingChange} AS change
            JOIN ({users}) AS site_user ON site_user.user_key = change.user_id), 0)
"""


class DayCounts(NamedTuple):
    """Uploads of one UTC day; ``processed`` of them took ``processing_us`` in total."""

    uploads: int = 0
    completed: int = 0
    failed: int = 0
    processing_us: int = 0
    processed: int = 0


class DiagnosisCounts(NamedTuple):
    """Uploads with one diagnosis in the span and in the previous span of equal length."""

    diagnosis: str
    uploads: int
    uploads_before: int


@dataclass
class Counts:
    """All counts of a report, from one snapshot.

    ``days`` holds each day with uploads in the calendar months that overlap the span,
    ``diagnoses`` the most frequent diagnoses of the span, at most ``DIAGNOSES_SHOWN``.
    """

    days: dict[date, DayCounts] = field(default_factory=dict)
    diagnoses: list[DiagnosisCounts] = field(default_factory=list)
    active_users: int = 0
    total_uploads: int = 0


def counts_get(span: Span, filters: Filters | None = None) -> Counts:
    """Count the uploads of ``span`` and of the previous span of equal length."""
    sql, parameters = _report_sql(filters or Filters())
    using = router.db_for_read(Upload)
    operations = connections[using].ops
    for name in ("start", "today", "previous_start", "first_of_months", "last_of_months"):
        parameters[name] = operations.adapt_datefield_value(getattr(span, name))
    for name, day in (("start_moment", span.start), ("end_moment", span.today + timedelta(days=1))):
        parameters[name] = operations.adapt_datetimefield_value(utc_day_start(day))
    parameters["diagnoses_shown"] = analytics_settings.DIAGNOSES_SHOWN
    counts = Counts()
    for kind, day, diagnosis, *numbers in fetch_rows(sql, parameters, using=using):
        if kind == "day":
            counts.days[as_date(day)] = DayCounts(*numbers)
        elif kind == "diagnosis":
            counts.diagnoses.append(DiagnosisCounts(diagnosis, numbers[0], numbers[1]))
        elif kind == "active":
            counts.active_users = numbers[0]
        else:
            counts.total_uploads = numbers[0]
    return counts


def _report_sql(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return the statement that counts the uploads matching ``filters``, and its parameters.

    The caller adds the parameters of the span and ``diagnoses_shown``.
    """
    counts_all = analytics_settings.COUNT_CLIENT_REPORTED
    if not filters and counts_all:
        return _unfiltered_sql(connection.vendor), {}
    names = tables()
    users, parameters = _users_sql(filters)
    which = ""
    if filters.diagnosis is not None:
        which, parameters["diagnosis"] = " AND fact.diagnosis = %(diagnosis)s", filters.diagnosis
    if not counts_all:
        names["counted"] = names["confirmed"]
    if filters.selects_users or not counts_all:
        source = FACTS.format(users=users, **names) + which.replace("AND", "WHERE", 1)
    else:
        rolled = ROLLED_AND_PENDING.format(**names)
        source = f"SELECT * FROM ({rolled}) AS r WHERE diagnosis = %(diagnosis)s"
    if which or not counts_all:
        total = f"COALESCE((SELECT SUM(uploads) FROM ({source}) AS counted), 0)"
    else:
        total = TOTAL_OF_USERS.format(users=users, **names)
    days, uploaded = BY_STATUS.format(source=source), UPLOADED.format(which=which, **names)
    return _assemble(users, days=days, source=source, uploaded=uploaded, total=total), parameters


@lru_cache(maxsize=8)
def _unfiltered_sql(vendor: str) -> str:
    names = tables()
    users, _ = _users_sql(Filters())
    pending = BY_STATUS.format(source=f"SELECT * FROM {names['PendingChange']}")
    uploaded = UPLOADED.format(which="", **names)
    return _assemble(
        users,
        days=DAYS_FROM_ROLLUP.format(**names) + pending,
        source=ROLLED_AND_PENDING.format(**names),
        uploaded=UPLOADED_BY_ROLLUP.format(uploaded=uploaded, **names),
        total=TOTAL.format(**names),
    )


def _assemble(users: str, *, days: str, source: str, uploaded: str, total: str) -> str:
    signed_in = SIGNED_IN if user_field("last_login") else "1 = 0"
    return REPORT.format(
        days=days,
        diagnoses=DIAGNOSES.format(source=source),
        # Orders ties independently of the database's default collation.
        by_code_point=' COLLATE "C"' if connection.vendor == "postgresql" else "",
        active=ACTIVE.format(users=users, signed_in=signed_in, uploaded=uploaded, **tables()),
        total=total,
    )


def _users_sql(filters: Filters) -> tuple[str, dict[str, Any]]:
    """Return a subselect of ``user_key`` and ``signed_in``, and its parameters.

    Built by the ORM, which resolves the columns of the configured user model.
    """
    columns = {"user_key": F("pk")}
    if user_field("last_login"):
        columns["signed_in"] = F("last_login")
    sql, values = filters.users().values(**columns).query.sql_with_params()
    names = [f"user_{position}" for position in range(len(values))]
    return sql % tuple(f"%({name})s" for name in names), dict(zip(names, values, strict=True))
