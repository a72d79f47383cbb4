"""``docs/operations/high-availability.md``: standbys take over while clients write.

The site knows all servers from its start. None of its processes is restarted.
"""

from __future__ import annotations

from contextlib import ExitStack

import psycopg
import pytest
from aftermath import assert_clean, count, entries
from django.db.utils import ConnectionHandler
from load import Load
from running_site import RunningSite

from config.databases import ready_to_serve
from config.environment import database
from myometrics_testing.services import OwnedServer
from myometrics_testing.waiting import wait_for

pytestmark = pytest.mark.any_database


@pytest.fixture
def servers(postgresql_server):
    """A primary and two standbys."""
    # The test servers' own option would let an answer go before a standby has the entry.
    execute(postgresql_server, "ALTER DATABASE postgres SET synchronous_commit = on")
    with ExitStack() as stack:
        standbys = [
            stack.enter_context(OwnedServer("postgresql-replica", postgresql_server.url))
            for _ in range(2)
        ]
        yield [postgresql_server, *standbys]


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


def commit_only_with_standby(primary):
    set_and_reload(primary, "synchronous_standby_names", "*")
    wait_for(
        lambda: count(
            primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        )
    )


def follow(standby, primary):
    folder = host_of(primary).replace("%2F", "/")
    set_and_reload(standby, "primary_conninfo", f"host={folder} user=postgres")


def promote(standby):
    execute(standby, "SELECT pg_promote()")
    wait_for(lambda: count(standby, "SELECT NOT pg_is_in_recovery()"))


def make_read_only(primary):
    """Let it commit nothing more; the position in its write-ahead log then."""
    set_and_reload(primary, "default_transaction_read_only", "on")
    writers = "SELECT count(*) FROM pg_stat_activity WHERE backend_xid IS NOT NULL"
    wait_for(lambda: count(primary, writers) == 0)
    return count(primary, "SELECT pg_current_wal_insert_lsn()")


@pytest.fixture
def site(tmp_path, servers):
    running = RunningSite(tmp_path, url_of(servers), None)
    running.environment |= {"RATE_LIMIT_API": "100000/minute", "RATE_LIMIT_AUTH": "1000/minute"}
    try:
        running.start()
        running.make_administrator()
        yield running
    finally:
        running.stop()


def test_site_goes_on_after_switch_over_and_after_death_of_the_primary(site, servers):
    first, second, third = servers
    commit_only_with_standby(first)
    with Load(site.url, site.sign_in()) as load:
        load.wait_for_successes()

        position = make_read_only(first)
        for standby in (second, third):
            has_all = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
            wait_for(lambda standby=standby, has_all=has_all: count(standby, has_all))
        promote(second)
        follow(third, second)
        commit_only_with_standby(second)
        load.wait_for_successes()
        # The first server still answers: only its being read-only sends connections away.
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


@pytest.mark.parametrize("pool_size", [0, 2], ids=["persistent", "pool"])
def test_connection_that_turned_read_only_is_replaced_before_its_next_use(
    servers, pool_size, django_db_blocker
):
    first, second, _ = servers
    options = ready_to_serve(database(url_of(servers)), pool_size=pool_size, prepares=False)
    handler = ConnectionHandler({"default": options})

    def server_of_a_request():
        handler["default"].close_if_unusable_or_obsolete()
        with handler["default"].cursor() as cursor:
            host = cursor.connection.info.host
        if pool_size:
            handler["default"].close()
        return host

    with django_db_blocker.unblock():
        assert server_of_a_request() in first.url.replace("%2F", "/")
        make_read_only(first)
        promote(second)
        assert server_of_a_request() in second.url.replace("%2F", "/")
        handler["default"].close()
        if pool_size:
            handler["default"].close_pool()


def test_several_hosts_are_read_as_libpq_reads_them():
    parsed = database("postgresql://me:a%2Cb@db1:5433,[::1],db3/name?target_session_attrs=primary")
    assert (parsed["HOST"], parsed["PORT"]) == ("db1,::1,db3", "5433,,")
    assert (parsed["USER"], parsed["PASSWORD"], parsed["NAME"]) == ("me", "a,b", "name")
    assert parsed["OPTIONS"] == {"target_session_attrs": "primary"}
