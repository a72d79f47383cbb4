"""Test servers leave nothing behind, however the tests end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis

from myometrics_testing.services import OwnedServer, ServerError, free_port
from myometrics_testing.waiting import wait_for

KINDS = ["postgresql", "redis"]
START_AND_WAIT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
from myometrics_testing.services import OwnedServer
server = OwnedServer(sys.argv[1])
print(server.url, flush=True)
sys.stdin.read()
"""


def processes_in(folder):
    """Command lines of the processes that mention ``folder`` or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            working_in = os.readlink(process / "cwd")
        except OSError:
            continue
        if str(folder) in words or working_in.startswith(str(folder)):
            found.append(words)
    return found


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("kind", KINDS)
def test_killed_test_run_leaves_no_server_or_folder(kind, ending, temporary_folder):
    runner = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary_folder)},
    )
    assert runner.stdout.readline()
    assert processes_in(temporary_folder)

    runner.send_signal(ending)
    runner.wait()

    wait_for(lambda: not processes_in(temporary_folder))
    wait_for(lambda: not list(temporary_folder.iterdir()))


def test_postgresql_responds_and_does_not_wait_for_disk(postgresql_server):
    with psycopg.connect(postgresql_server.url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("off",)
        assert connection.execute("SELECT upper('ä')").fetchone() == ("Ä",)


def test_redis_restarts_under_the_same_url(redis_server):
    client = redis.Redis.from_url(redis_server.url)
    assert client.ping()

    redis_server.stop()
    with pytest.raises(redis.ConnectionError):
        client.ping()

    redis_server.start()
    assert client.ping()


def test_paused_redis_hangs_until_resumed(redis_server):
    client = redis.Redis.from_url(redis_server.url)
    hurried_client = redis.Redis.from_url(redis_server.url, socket_timeout=0.3)
    assert client.ping()

    redis_server.freeze()
    with pytest.raises(redis.TimeoutError):
        hurried_client.ping()

    redis_server.thaw()
    assert client.ping()


def test_postgresql_keeps_data_over_restart(postgresql_server):
    with psycopg.connect(postgresql_server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")

    postgresql_server.stop()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(postgresql_server.url)
    postgresql_server.start()

    with psycopg.connect(postgresql_server.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_redis_fixture_starts_empty(redis_url):
    assert redis.Redis.from_url(redis_url).dbsize() == 0


def test_port_is_given_to_one_process_only():
    code = "import sys; from myometrics_testing.services.servers import _reserve as reserve;"
    code += "print(reserve(int(sys.argv[1])))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(free_port())], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


def test_server_that_cannot_start_is_an_error():
    with pytest.raises(ServerError, match="no-such-server"):
        OwnedServer("no-such-server")


def test_small_disk_is_full_until_freed_and_removed_at_end():
    server = OwnedServer("postgresql-on-a-small-disk")
    folder = Path(psycopg.conninfo.conninfo_to_dict(server.url)["host"])
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE note AS SELECT 'before' AS text")
        connection.execute("CREATE TABLE another (text text)")
        server.fill()
        with pytest.raises(psycopg.errors.DiskFull):
            connection.execute(
                "INSERT INTO another SELECT repeat('x', 1000) FROM generate_series(1, 999)"
            )
        assert connection.execute("SELECT text FROM note").fetchone() == ("before",)
        server.free()
        connection.execute("INSERT INTO another VALUES ('after')")
    assert str(folder) not in Path("/proc/mounts").read_text()
    server.close()
    wait_for(lambda: not folder.exists())
