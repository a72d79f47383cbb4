"""The site's own settings, where what is up is never given up: for tests of something else."""

from config.settings import *  # noqa: F403
from myometrics_testing.waiting import PATIENCE

MYOMETRICS = globals()["MYOMETRICS"]
if redis_url := globals()["REDIS_URL"]:
    # Redis counts requests, however long it takes: no process begins to count on its own.
    patient = f"{redis_url}{'&' if '?' in redis_url else '?'}socket_timeout={PATIENCE}"
    patient += f"&socket_connect_timeout={PATIENCE}"
    MYOMETRICS = {**MYOMETRICS, "RATE_LIMIT_STORAGE": patient}
# SQLite's writers take turns, for which they have all the time that a machine under load needs.
for database in globals()["DATABASES"].values():
    if database["ENGINE"].endswith("sqlite3"):
        database["OPTIONS"]["timeout"] = PATIENCE
