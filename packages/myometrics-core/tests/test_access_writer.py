"""The table of accesses costs no request any time, whatever becomes of database and process."""

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from django.db import connection, connections
from django.test import Client

from myometrics_core import accesses
from myometrics_core.access_table.models import Access
from myometrics_core.access_table.writer import access_writer
from myometrics_core.accesses import AccessObserver, flush_accesses, register_access_observer
from myometrics_testing.waiting import PATIENCE, wait_for

# --- a request never waits ---------------------------------------------------------------------


def test_a_request_costs_no_query(django_assert_num_queries, access_table, db):
    with django_assert_num_queries(0):
        Client().get("/api/nothing")
    flush_accesses()
    assert Access.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_simultaneous_requests_each_leaves_one_row(access_table, run_concurrently):
    access_table(SECONDS=0.05, BATCH=50)
    client = Client()
    outcomes = run_concurrently(lambda: [client.get("/api/nothing") for _ in range(25)], times=20)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    wait_for(lambda: Access.objects.count() >= 500)
    access_writer.close()
    assert Access.objects.values("request_id").distinct().count() == Access.objects.count() == 500


def test_a_full_queue_drops_counts_and_says_so_once(access_table, db, caplog):
    access_table(WRITES="on_flush", QUEUE=10)
    for _ in range(25):
        Client().get("/api/nothing")
    flush_accesses()
    assert Access.objects.count() == 10
    assert access_writer.dropped == 15
    assert caplog.text.count("queue of accesses is full") == 1


def test_a_full_batch_does_not_wait_for_its_time(access_table, transactional_db):
    access_table(SECONDS=600, BATCH=20)
    for _ in range(20):
        Client().get("/api/nothing")
    wait_for(lambda: Access.objects.count() == 20)


@pytest.mark.django_db(transaction=True)
def test_a_locked_table_holds_up_no_request(
    access_table, database_vendor, django_assert_num_queries
):
    access_table(SECONDS=0.01)
    other = connections.create_connection("default")
    with other.cursor() as cursor:
        lock = "BEGIN IMMEDIATE" if database_vendor == "sqlite" else "BEGIN"
        cursor.execute(lock)
        if database_vendor == "postgresql":
            cursor.execute("LOCK TABLE myometrics_access_table_access IN EXCLUSIVE MODE")
        with django_assert_num_queries(0):
            for _ in range(50):
                Client().get("/api/nothing")
        assert not Access.objects.exists()
        cursor.execute("ROLLBACK")
    other.close()
    wait_for(lambda: Access.objects.count() == 50)


def test_an_observer_that_fails_harms_no_request(access_table, caplog):
    class Broken(AccessObserver):
        def observe(self, access):
            raise ZeroDivisionError

        def flush(self):
            raise ZeroDivisionError

    register_access_observer("broken", Broken())
    try:
        assert Client().get("/api/nothing").status_code == 404
    finally:
        del accesses._observers["broken"]
    assert "Observer of accesses broken failed" in caplog.text


# --- processes and databases that end ----------------------------------------------------------


NOT_CONNECTED = {"connected": False}
"""The thread that answers requests has no connection to the database: it can't wait for one."""


class Process:
    """``access_process.py`` on a database."""

    def __init__(self, url, **keys):
        here = Path(__file__).parent
        self._child = subprocess.Popen(
            [sys.executable, here / "access_process.py", json.dumps(keys)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "DATABASE_URL": url,
                "DJANGO_SETTINGS_MODULE": "core_test_settings",
                "PYTHONPATH": str(here),
            },
        )

    def __call__(self, command):
        self._child.stdin.write(f"{command}\n")
        self._child.stdin.flush()
        return json.loads(self._child.stdout.readline())

    def end(self):
        """Ends the process as Python does; what it has logged."""
        errors = self._child.communicate(timeout=PATIENCE)[1]
        assert self._child.returncode == 0, errors
        return errors


@contextmanager
def process(url, **keys):
    started = Process(url, **{f"ACCESS_TABLE_{key}": value for key, value in keys.items()})
    try:
        yield started
    finally:
        started._child.kill()
        started._child.communicate()


def this_database():
    name = connection.settings_dict["NAME"]
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    base, _, query = os.environ["DATABASE_URL"].partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.mark.django_db(transaction=True)
def test_a_process_that_ends_writes_what_waits():
    with process(this_database(), SECONDS=600) as site:
        site("patience")
        site("ask 30")
        assert not Access.objects.exists()
        site.end()
    assert Access.objects.count() == 30


@pytest.mark.django_db(transaction=True)
def test_a_forked_worker_writes_its_own_and_not_its_parents():
    with process(this_database(), SECONDS=600) as site:
        site("patience")
        site("ask 30")
        site("fork 7")
        assert Access.objects.count() == 7
        site.end()
    assert Access.objects.count() == 37


def rows(url):
    try:
        with psycopg.connect(url, connect_timeout=30) as database:
            return database.execute(
                "SELECT COUNT(*) FROM myometrics_access_table_access"
            ).fetchone()[0]
    except psycopg.OperationalError:
        return -1


@pytest.mark.any_database
def test_no_request_asks_a_killed_database_which_is_written_again_once_it_is_back(
    postgresql_server,
):
    with process(postgresql_server.url, SECONDS=0.05, QUEUE=100) as site:
        site("migrate")
        site("ask 10")
        wait_for(lambda: rows(postgresql_server.url) == 10)
        postgresql_server.stop()
        assert site("ask 60") == NOT_CONNECTED
        postgresql_server.start()
        wait_for(lambda: rows(postgresql_server.url) == 70)
        postgresql_server.stop()
        assert site("ask 5000") == NOT_CONNECTED
        dropped = site("dropped")
        assert 5000 - 100 - 500 <= dropped <= 5000 - 100
        postgresql_server.start()
        wait_for(lambda: rows(postgresql_server.url) == 5070 - dropped)
        assert "can't be written" in site.end()


@pytest.mark.any_database
def test_a_database_that_hangs_holds_up_neither_requests_nor_the_end(postgresql_server):
    with process(postgresql_server.url, SECONDS=0.05, QUEUE=100) as site:
        site("migrate")
        site("ask 1")
        postgresql_server.freeze()
        # Answered while the database hangs, and ended while it does.
        assert site("ask 200") == NOT_CONNECTED
        assert "could not be written before the process ended" in site.end()
        postgresql_server.thaw()
