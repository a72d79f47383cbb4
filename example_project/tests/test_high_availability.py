"""``docs/operations/backup.md``: standbys take over while clients write.

The site has all servers in its configuration. None of its processes is restarted.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager

import psycopg
import pytest
from django.db.utils import ConnectionHandler
from fault_checks import assert_clean, count, entries
from load import Load, upload
from running_site import RunningSite

from config.databases import HAS_POOL, ready_to_serve
from config.environment import database
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.long


TOKEN = "of-prometheus-alone"
LAG = 1
"""Seconds that the replica may be behind."""
EARLIER_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'
   AND xact_start < pg_conf_load_time() + interval '1 second'
"""
"""Those that may write although the server has become read-only."""


@contextmanager
def primary_and_standbys():
    """A primary and two standbys."""
    with OwnedServer("postgresql") as primary:
        # The test servers' default would respond before a standby has the entry.
        execute(primary, "ALTER DATABASE postgres SET synchronous_commit = on")
        with (
            OwnedServer("postgresql-replica", primary.url) as second,
            OwnedServer("postgresql-replica", primary.url) as third,
        ):
            yield [primary, second, third]


@pytest.fixture(scope="module")
def servers():
    with primary_and_standbys() as started:
        yield started


def url_of(servers):
    hosts = ",".join(host_of(server) for server in servers)
    return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"


def host_of(server):
    return server.url.rpartition("@")[2].partition("/")[0]


def execute(server, *statements):
    with psycopg.connect(server.url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def set_and_reload(server, name, value):
    execute(server, f"ALTER SYSTEM SET {name} = '{value}'", "SELECT pg_reload_conf()")


def require_standby_for_commit(primary):
    set_and_reload(primary, "synchronous_standby_names", "*")
    wait_for(
        lambda: count(primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'")
    )


def follow(standby, primary):
    folder = host_of(primary).replace("%2F", "/")
    set_and_reload(standby, "primary_conninfo", f"host={folder} user=postgres")


def promote(standby):
    execute(standby, "SELECT pg_promote()")
    wait_for(lambda: count(standby, "SELECT NOT pg_is_in_recovery()"))


def make_read_only(primary):
    """Stop commits; return the position in the write-ahead log."""
    set_and_reload(primary, "default_transaction_read_only", "on")
    wait_for(lambda: count(primary, "SHOW default_transaction_read_only") == "on")
    wait_for(lambda: count(primary, EARLIER_TRANSACTIONS) == 0)
    return count(primary, "SELECT pg_current_wal_insert_lsn()")


@pytest.fixture(scope="module")
def site(tmp_path_factory, servers):
    """Reads from the third server, which the last test promotes."""
    running = RunningSite(tmp_path_factory.mktemp("site"), url_of(servers), None)
    running.environment |= {
        "RATE_LIMIT_API": "100000/minute",
        "RATE_LIMIT_AUTH": "1000/minute",
        "REPLICA_URLS": servers[2].url,
        "REPLICA_LAG": str(LAG),
        "METRICS_TOKEN": TOKEN,
    }
    try:
        running.start()
        running.make_administrator()
        yield running
    finally:
        running.stop()


def listed(site, access):
    results = site.request(access, "GET", "/audit-logs/").json()["results"]
    return {int(entry["id"]) for entry in results}


def replica_state(site, access):
    """The replica's state in health and in the metric."""
    text = site.get("/metrics", Authorization=f"Bearer {TOKEN}").text
    found = re.search(r'^myometrics_replica_left_out{replica="replica1"} (.*)$', text, re.M)
    health = site.request(access, "GET", "/health/").json()["services"]
    return health["replicas"], found and float(found[1])


def test_paused_replica_does_not_hide_entries(site, servers):
    access = site.sign_in()
    wait_for(lambda: replica_state(site, access) == ("up", 0.0))
    execute(servers[2], "SELECT pg_wal_replay_pause()")
    try:
        entry = site.request(access, "POST", "/audit-logs/", upload(1)).json()
        written_at = time.monotonic()
        wait_for(lambda: int(entry["id"]) in listed(site, access))
        wait_for(lambda: replica_state(site, access) == ("down", 1.0))
        # The state is that of one process. The other may have found the replica complete later,
        # but not after the write.
        wait_for(lambda: time.monotonic() > written_at + LAG)
        # Excluded: every process reads from the primary until the replica has caught up.
        assert all(int(entry["id"]) in listed(site, access) for _ in range(10))
    finally:
        execute(servers[2], "SELECT pg_wal_replay_resume()")
    wait_for(lambda: replica_state(site, access) == ("up", 0.0))


def test_site_works_after_switch_over_and_loss_of_primary(site, servers):
    first, second, third = servers
    require_standby_for_commit(first)
    with Load(site.url, site.sign_in()) as load:
        load.wait_for_successes()

        position = make_read_only(first)
        for standby in (second, third):
            has_all = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
            wait_for(lambda standby=standby, has_all=has_all: count(standby, has_all))
        promote(second)
        follow(third, second)
        require_standby_for_commit(second)
        load.wait_for_successes()
        # The first server still responds, but is read-only.
        load.refused.clear()
        load.wait_for_successes(40)
        assert load.refused == []

        second.kill()
        wait_for(lambda: len(load.refused) >= 4)
        promote(third)
        load.wait_for_successes()
    assert_clean(load.refused)
    assert load.broken == []
    assert set(load.written) <= entries(third)
    # The server that was the replica is the primary now.
    assert max(load.written) in listed(site, site.sign_in())


@pytest.mark.parametrize("pool_size", [0, 2], ids=["persistent", "pool"])
def test_read_only_connection_is_replaced_before_next_use(
    postgresql_server, pool_size, django_db_blocker
):
    with (
        OwnedServer("postgresql-replica", postgresql_server.url) as standby,
        django_db_blocker.unblock(),
    ):
        _replaces_connection(postgresql_server, standby, pool_size)


def _replaces_connection(first, second, pool_size):
    url = url_of([first, second])
    options = ready_to_serve(database(url), pool_size=pool_size, pools_transactions=False)
    handler = ConnectionHandler({"default": options})

    def server_of_a_request():
        handler["default"].close_if_unusable_or_obsolete()
        with handler["default"].cursor() as cursor:
            host = cursor.connection.info.host
        if pool_size:
            handler["default"].close()
        return host

    assert server_of_a_request() in first.url.replace("%2F", "/")
    make_read_only(first)
    promote(second)
    assert server_of_a_request() in second.url.replace("%2F", "/")
    handler["default"].close()
    if pool_size and HAS_POOL:
        handler["default"].close_pool()


def test_several_hosts_are_parsed_like_libpq():
    parsed = database("postgresql://me:a%2Cb@db1:5433,[::1],db3/name?target_session_attrs=primary")
    assert (parsed["HOST"], parsed["PORT"]) == ("db1,::1,db3", "5433,,")
    assert (parsed["USER"], parsed["PASSWORD"], parsed["NAME"]) == ("me", "a,b", "name")
    assert parsed["OPTIONS"] == {"target_session_attrs": "primary"}
