"""SQL of the self-check: each statement finds differences of facts and rollup + pending."""

from __future__ import annotations

from typing import Final

from .tables import tables, user_table

__all__ = ["DAILY", "DAYS", "LAST_DAYS", "TOTAL", "UPLOADERS", "USERS", "with_tables"]

WITHIN: Final = "WHERE day BETWEEN %(first)s AND %(last)s"

DAILY: Final = f"""
SELECT day, diagnosis, status, CAST(SUM(uploads) AS BIGINT), CAST(SUM(processing_us) AS BIGINT),
       CAST(SUM(processed) AS BIGINT)
FROM (
  SELECT day, diagnosis, status, COUNT(*) AS uploads,
         COALESCE(SUM(processing_us), 0) AS processing_us, COUNT(processing_us) AS processed
  FROM {{counted}} {WITHIN} GROUP BY day, diagnosis, status
  UNION ALL
  SELECT day, diagnosis, status, -uploads, -processing_us, -processed
  FROM {{daily_rollup}} {WITHIN}
  UNION ALL
  SELECT day, diagnosis, status, -uploads, -processing_us, -processed FROM {{pending}} {WITHIN}
) AS difference
GROUP BY day, diagnosis, status
HAVING SUM(uploads) <> 0 OR SUM(processing_us) <> 0 OR SUM(processed) <> 0
"""

DAYS: Final = f"""
SELECT day, CAST(SUM(uploads) AS BIGINT), CAST(SUM(processing_us) AS BIGINT),
       CAST(SUM(processed) AS BIGINT), CAST(SUM(completed) AS BIGINT), CAST(SUM(failed) AS BIGINT)
FROM (
  SELECT day, COUNT(*) AS uploads, COALESCE(SUM(processing_us), 0) AS processing_us,
         COUNT(processing_us) AS processed,
         SUM(CASE WHEN status = 'completed' THEN 1 ELSE 0 END) AS completed,
         SUM(CASE WHEN status = 'failed' THEN 1 ELSE 0 END) AS failed
  FROM {{counted}} {WITHIN} GROUP BY day
  UNION ALL
  SELECT day, -uploads, -processing_us, -processed, -completed, -failed
  FROM {{day_rollup}} {WITHIN}
  UNION ALL
  SELECT day, -uploads, -processing_us, -processed,
         CASE WHEN status = 'completed' THEN -uploads ELSE 0 END,
         CASE WHEN status = 'failed' THEN -uploads ELSE 0 END
  FROM {{pending}} {WITHIN}
) AS difference
GROUP BY day
HAVING SUM(uploads) <> 0 OR SUM(processing_us) <> 0 OR SUM(processed) <> 0
    OR SUM(completed) <> 0 OR SUM(failed) <> 0
"""

# Days and users with pending changes are left to the next fold, which recounts them.
UPLOADERS: Final = f"""
SELECT rollup.day FROM {{day_rollup}} AS rollup
LEFT JOIN (SELECT day, COUNT(DISTINCT user_id) AS uploaders FROM {{counted}} {WITHIN} GROUP BY day)
       AS fact ON fact.day = rollup.day
WHERE rollup.day BETWEEN %(first)s AND %(last)s
  AND rollup.uploaders <> COALESCE(fact.uploaders, 0)
  AND rollup.day NOT IN (SELECT day FROM {{pending}})
"""

USERS: Final = """
SELECT site_user.{user_key}, CAST(SUM(uploads) AS BIGINT)
FROM (
  SELECT user_id, COUNT(*) AS uploads FROM {counted} GROUP BY user_id
  UNION ALL
  SELECT user_id, -uploads FROM {user_rollup}
  UNION ALL
  SELECT user_id, -uploads FROM {pending} WHERE user_id IS NOT NULL
) AS difference JOIN {user} AS site_user ON site_user.{user_key} = difference.user_id
GROUP BY site_user.{user_key} HAVING SUM(uploads) <> 0
"""

LAST_DAYS: Final = """
SELECT rollup.user_id FROM {user_rollup} AS rollup
LEFT JOIN (SELECT user_id, MAX(day) AS last_day FROM {counted} GROUP BY user_id) AS fact
       ON fact.user_id = rollup.user_id
WHERE (rollup.last_day <> fact.last_day
       OR (rollup.last_day IS NULL AND fact.last_day IS NOT NULL)
       OR (rollup.last_day IS NOT NULL AND fact.last_day IS NULL))
  AND rollup.user_id NOT IN (SELECT user_id FROM {pending} WHERE user_id IS NOT NULL)
"""

TOTAL: Final = """
SELECT (SELECT COUNT(*) FROM {counted})
     - COALESCE((SELECT SUM(uploads) FROM {pending}), 0)
     - COALESCE((SELECT SUM(uploads) FROM {rollup_state}), 0)
"""


def with_tables(template: str) -> str:
    """Insert the names of this package's tables and of the user table and key into ``template``."""
    return template.format(**tables(), **user_table())
