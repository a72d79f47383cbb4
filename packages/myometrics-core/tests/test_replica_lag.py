"""Replicas that lag are left out, with streaming replicas of PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace

import dj_database_url
import psycopg
import pytest
from django.contrib.auth.models import Group
from django.db.utils import ConnectionHandler
from django.test.utils import CaptureQueriesContext

from myometrics_core.db import ReplicaRouter, read_from_replica, replicas
from myometrics_core.db.replicas import NotAReplica, measure_lag
from myometrics_core.health import check_health, register_probe
from myometrics_core.health.probes import ReplicasProbe
from myometrics_core.observability import gauges
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.any_database

ADA = SimpleNamespace(pk=1)
GONE = "postgresql://postgres@%2Fnowhere/postgres"


@pytest.fixture(scope="module")
def primary():
    with OwnedServer("postgresql") as server:
        yield server


@pytest.fixture(scope="module")
def standby(primary):
    with OwnedServer("postgresql-replica", primary.url) as server:
        yield server


@pytest.fixture
def connections(primary, standby, settings, monkeypatch, django_db_blocker):
    urls = {"default": primary.url, "replica": standby.url, "gone": GONE, "itself": primary.url}
    handler = ConnectionHandler({alias: dj_database_url.parse(url) for alias, url in urls.items()})
    monkeypatch.setattr(replicas, "connections", handler)
    monkeypatch.setattr("myometrics_core.health.probes.connections", handler)
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"], "REPLICA_LAG": 1}
    replicas._replica.cache_clear()
    with django_db_blocker.unblock():
        yield handler
        handler.close_all()
    replicas._replica.cache_clear()


def read_from():
    with read_from_replica(user=ADA):
        return ReplicaRouter().db_for_read(Group)


def ask(server, statement):
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone()[0] if cursor.description else None


def write(primary):
    ask(primary, "CREATE TABLE IF NOT EXISTS written (); DROP TABLE written")


@contextmanager
def paused_replay(standby):
    ask(standby, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        ask(standby, "SELECT pg_wal_replay_resume()")


@contextmanager
def lost_primary(standby):
    """Cut the standby off, after it has replayed all WAL that it received."""
    address = ask(standby, "SHOW primary_conninfo")
    receives = "SELECT count(*) FROM pg_stat_wal_receiver"
    set_primary(standby, "")
    try:
        wait_for(lambda: ask(standby, receives) == 0)
        yield
        assert ask(standby, "SELECT pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()")
    finally:
        set_primary(standby, address)


def set_primary(standby, address):
    quoted = address.replace("'", "''")
    ask(standby, f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
    ask(standby, "SELECT pg_reload_conf()")


def test_replica_of_an_idle_primary_is_not_behind(connections, standby):
    last = "SELECT clock_timestamp() - pg_last_xact_replay_timestamp() > interval '1 second'"
    wait_for(lambda: ask(standby, last) is not False)
    wait_for(lambda: measure_lag("replica") == 0)
    wait_for(lambda: read_from() == "replica")


@pytest.mark.parametrize("fault", [paused_replay, lost_primary])
def test_lagging_replica_is_left_out_until_it_catches_up(connections, primary, standby, fault):
    wait_for(lambda: read_from() == "replica")
    with fault(standby):
        write(primary)
        wait_for(lambda: read_from() is None)
        assert measure_lag("replica") > 0
    wait_for(lambda: read_from() == "replica")


@contextmanager
def rare_writes_to_disk(primary):
    """Commits are visible long before their WAL is written: ``synchronous_commit`` is off."""
    ask(primary, "ALTER SYSTEM SET wal_writer_delay = '10s'")
    ask(primary, "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        ask(primary, "ALTER SYSTEM RESET wal_writer_delay")
        ask(primary, "SELECT pg_reload_conf()")


def test_replica_lacks_commits_that_are_not_yet_written_to_disk(connections, primary, standby):
    assert ask(primary, "SHOW synchronous_commit") == "off"
    ask(primary, "CREATE TABLE IF NOT EXISTS commits ()")
    with rare_writes_to_disk(primary):
        wait_for(lambda: measure_lag("replica") == 0)
        with paused_replay(standby):
            ask(primary, "INSERT INTO commits DEFAULT VALUES")
            assert measure_lag("replica") > 0


IS_AT_PAGE_START = "SELECT mod(pg_current_wal_insert_lsn() - '0/0', 8192) = 24"
FILL_PAGE = """
DO $$ BEGIN
    LOOP
        PERFORM pg_logical_emit_message(false, '', 'fills a page');
        EXIT WHEN mod(pg_current_wal_insert_lsn() - '0/0', 8192) = 24;
    END LOOP;
END $$
"""


def is_complete_at_page_start(primary):
    if not ask(primary, IS_AT_PAGE_START):
        ask(primary, FILL_PAGE)
    return measure_lag("replica") == 0 and ask(primary, IS_AT_PAGE_START)


def test_replica_is_complete_when_a_record_fills_its_page(connections, primary):
    assert wait_for(lambda: is_complete_at_page_start(primary))


def test_replica_that_is_left_out_shows_in_metrics_and_health(
    connections, primary, standby, monkeypatch, long_dependency_timeouts
):
    monkeypatch.setattr("myometrics_core.health.report._runners", {})
    register_probe(ReplicasProbe())
    wait_for(lambda: check_health(max_age=0).services == {"replicas": "up"})
    with paused_replay(standby):
        write(primary)
        wait_for(lambda: replicas.replicas_left_out() == {"replica": 1.0})
        assert gauges.finite_replica_lags()["replica"] > 1
        assert check_health(max_age=0).status == "degraded"


def test_other_replicas_are_read_while_one_is_unreachable(connections, settings):
    settings.MYOMETRICS = {"READ_REPLICAS": ["gone", "replica"], "REPLICA_LAG": 1}
    wait_for(lambda: read_from() == "replica")
    assert "gone" not in {read_from() for _ in range(20)}
    assert replicas.replicas_left_out()["gone"] == 1.0
    assert "gone" not in gauges.finite_replica_lags()


def test_replica_state_is_unknown_without_primary(connections, settings, monkeypatch):
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"], "REPLICA_LAG": 3600}
    wait_for(lambda: read_from() == "replica")
    connections.settings["default"].update(dj_database_url.parse(GONE))
    connections["default"].close()
    monkeypatch.setattr(replicas, "CHECK_SECONDS", 0.0)
    replicas._replica("replica")._due_at = 0.0
    assert read_from() == "replica"
    with pytest.raises(replicas.PrimaryUnavailable):
        measure_lag("replica")


def test_server_that_accepts_writes_is_no_replica(connections, settings):
    settings.MYOMETRICS = {"READ_REPLICAS": ["itself"]}
    with pytest.raises(NotAReplica):
        measure_lag("itself")
    assert read_from() is None


def test_replica_of_another_history_is_no_replica(connections, primary):
    with OwnedServer("postgresql-replica", primary.url) as other:
        wait_for(lambda: measure_lag("replica") == 0)
        ask(other, "SELECT pg_promote()")
        connections.settings["default"].update(dj_database_url.parse(other.url))
        connections["default"].close()
        with pytest.raises(NotAReplica):
            measure_lag("replica")


def test_many_reads_cost_one_query_on_primary_and_replica(connections, settings, monkeypatch):
    settings.MYOMETRICS = {"READ_REPLICAS": ["replica"], "REPLICA_LAG": 7200}
    monkeypatch.setattr(replicas, "CHECK_SECONDS", 3600.0)
    wait_for(lambda: measure_lag("replica") == 0)
    with (
        CaptureQueriesContext(connections["default"]) as on_primary,
        CaptureQueriesContext(connections["replica"]) as on_replica,
    ):
        assert {read_from() for _ in range(20)} == {"replica"}
    assert (len(on_primary), len(on_replica)) == (1, 1)


def test_thread_does_not_wait_for_another_measurement(connections, monkeypatch):
    """While one thread measures a hanging replica, others read from the primary."""
    calls = []

    def measure(alias):
        calls.append(alias)
        wait_for(lambda: len(others) == 4)
        return 0.0

    others = []
    monkeypatch.setattr(replicas, "measure_lag", measure)
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(replicas._replica("replica").lag)
        wait_for(lambda: calls)
        for lag in [pool.submit(replicas._replica("replica").lag) for _ in range(4)]:
            others.append(lag.result())
        assert first.result() < float("inf")
    assert calls == ["replica"]
    assert others == [float("inf")] * 4
