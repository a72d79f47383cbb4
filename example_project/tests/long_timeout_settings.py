"""The site's settings with long timeouts, for machines under load."""

from config.settings import *  # noqa: F403
from myometrics_testing.waiting import PATIENCE

MYOMETRICS = globals()["MYOMETRICS"]
if redis_url := globals()["REDIS_URL"]:
    # Redis counts requests even if it is slow: no fallback to counting in the process.
    patient = f"{redis_url}{'&' if '?' in redis_url else '?'}socket_timeout={PATIENCE}"
    patient += f"&socket_connect_timeout={PATIENCE}"
    MYOMETRICS = {**MYOMETRICS, "RATE_LIMIT_STORAGE": patient}
# Time for SQLite's writers, which wait for each other.
for database in globals()["DATABASES"].values():
    if database["ENGINE"].endswith("sqlite3"):
        database["OPTIONS"]["timeout"] = PATIENCE
