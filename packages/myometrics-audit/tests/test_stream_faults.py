"""Nothing is lost while receivers and senders are killed, and the order is kept.

Run with ``-s`` to see the number of duplicates.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from stream_receivers import Answer, http_receiver

from myometrics_testing.rsyslog import Rsyslog
from myometrics_testing.site_processes import SiteProcesses
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = [pytest.mark.any_database, pytest.mark.long]

SCRIPT = Path(__file__).parent / "stream_process.py"
EVENTS = 5000
KILLS = 8


class Site:
    """A site that writes entries and sends them, in processes of its own."""

    def __init__(self, folder, **stream):
        self._processes = SiteProcesses(SCRIPT, folder, STREAM=json.dumps(stream))

    def __enter__(self):
        self._processes.__enter__()
        self._processes.run("audit_stream", "list")
        self._worker = self._processes.start_worker()
        command = [sys.executable, str(SCRIPT), "write", str(EVENTS)]
        self._writer = subprocess.Popen(command, env=self._processes.environment)
        return self

    def __exit__(self, *failure):
        self._writer.kill()
        self._writer.wait()
        self._processes.__exit__(*failure)

    def kill_sender(self):
        self._processes.kill(self._worker)
        self._worker = self._processes.start_worker()

    def wait_until_written(self):
        assert self._writer.wait(PATIENCE) == 0

    def sealed_ids(self):
        """The ids of entries in seal order."""
        rows = self._processes.execute(
            "SELECT entry_id FROM myometrics_audit_leaf WHERE seal_number IS NOT NULL "
            "ORDER BY seal_number, entry_id"
        )
        return [entry_id for (entry_id,) in rows]

    def refused_ids(self):
        rows = self._processes.execute(
            "SELECT entry_id FROM myometrics_audit_streams_deadletter ORDER BY entry_id"
        )
        return [entry_id for (entry_id,) in rows]

    def is_done(self):
        (row,) = self._processes.execute(
            "SELECT seal_number, entry_id, is_connected FROM myometrics_audit_streams_stream"
        )
        (last,) = self._processes.execute(
            "SELECT seal_number, entry_id FROM myometrics_audit_leaf "
            "WHERE seal_number IS NOT NULL ORDER BY seal_number DESC, entry_id DESC LIMIT 1"
        )
        return row[:2] == last and not row[2]


def report(kind, received):
    print(f"\n{kind}: {EVENTS} events, {len(received) - len(set(received))} duplicates")


def rsyslog_ids(receiver):
    return [json.loads(line[line.index("{") :])["id"] for line in receiver.lines()]


@pytest.mark.program("rsyslogd")
def test_nothing_is_lost_when_rsyslog_and_the_sender_are_killed(tmp_path):
    (tmp_path / "rsyslog").mkdir()
    receiver = Rsyslog(tmp_path / "rsyslog")
    receiver.start()
    options = {
        "url": f"syslog+tls://127.0.0.1:{receiver.port}",
        "format": "rfc5424",
        "ca_file": str(receiver.folder / "ca.pem"),
        "cert_file": str(receiver.folder / "client.pem"),
        "key_file": str(receiver.folder / "client.key"),
        "server_name": "siem.example",
        "batch_size": 50,
        "resend_seconds": 10,
    }
    try:
        with Site(tmp_path, **options) as site:
            for number in range(KILLS):
                enough = EVENTS * number // KILLS
                wait_for(lambda enough=enough: len(set(rsyslog_ids(receiver))) > enough)
                if number % 3 == 2:
                    site.kill_sender()
                receiver.kill()
                receiver.start()
            site.wait_until_written()
            expected = site.sealed_ids()
            wait_for(lambda: set(rsyslog_ids(receiver)) >= set(expected) and site.is_done())
            received = rsyslog_ids(receiver)
    finally:
        receiver.kill()
    assert len(expected) == EVENTS
    assert list(dict.fromkeys(received)) == expected
    report("rsyslog", received)


def test_nothing_is_lost_when_http_fails_and_the_sender_is_killed(tmp_path):
    with http_receiver() as receiver:
        requests = 0

        def decide(documents):
            nonlocal requests
            requests += 1
            if any(document["resource_id"] in {"17", "4321"} for document in documents):
                return Answer(400)
            failures = {3: Answer(500), 7: Answer(None), 11: Answer(429, {"Retry-After": "0"})}
            if requests % 13 == 5:  # It accepts the batch, and closes before it responds.
                receiver.accepted += documents
                return Answer(None)
            return failures.get(requests % 13, Answer())

        receiver.decide = decide
        with Site(tmp_path, url=receiver.url, format="json", batch_size=100) as site:
            for number in range(KILLS // 2):
                enough = EVENTS * number // KILLS
                wait_for(lambda enough=enough: len(receiver.accepted) > enough)
                site.kill_sender()
            site.wait_until_written()
            expected = site.sealed_ids()
            wait_for(site.is_done)
            refused = site.refused_ids()
    assert len(refused) == 2
    assert list(dict.fromkeys(receiver.ids)) == [one for one in expected if one not in refused]
    report("HTTP", receiver.ids)
