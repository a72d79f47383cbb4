"""A web process that is told to end writes the accesses that wait, whatever serves it."""

import signal
import sqlite3

import httpx
import pytest
from running_site import RunningSite

from myometrics_testing.waiting import PATIENCE

pytestmark = pytest.mark.any_database

REQUESTS = 40


@pytest.fixture(params=["gthread", "uvicorn_worker.UvicornWorker"])
def site(request, tmp_path):
    running = RunningSite(tmp_path, f"sqlite:///{tmp_path / 'site.sqlite3'}", None)
    running.environment |= {"ACCESS_TABLE": "true", "WEB_WORKER_CLASS": request.param}
    try:
        running.start()
        yield running
    finally:
        running.stop()


def test_no_access_before_the_end_is_lost(site, tmp_path):
    with httpx.Client(base_url=site.url, timeout=PATIENCE) as client:
        for _ in range(REQUESTS):
            assert client.get("/api/nothing").status_code == 404
    site.processes["web"].send_signal(signal.SIGTERM)
    assert site.processes["web"].wait(timeout=PATIENCE) == 0
    with sqlite3.connect(tmp_path / "site.sqlite3") as database:
        rows = database.execute(
            "SELECT COUNT(*) FROM myometrics_access_table_access WHERE status = 404"
        )
        assert rows.fetchone() == (REQUESTS,), site.log
