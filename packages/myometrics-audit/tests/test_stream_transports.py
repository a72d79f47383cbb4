"""Transports of streams: syslog over TLS, TCP and Unix sockets, and proofs in a storage."""

from __future__ import annotations

import json
import os
import resource
import socket
import ssl
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta

import pytest
import time_machine
import trustme
from django.core.files.storage import storages
from django.utils import timezone
from stream_receivers import (
    Answer,
    SyslogReceiver,
    configure_streams,
    http_receiver,
    read_frames,
)

from myometrics_audit.sealing import export_problems
from myometrics_audit.streams import formats
from myometrics_audit.streams.delivery import MAX_REFUSED_IN_ROW, StreamFailed, stream_send
from myometrics_audit.streams.formats import FORMATS
from myometrics_audit.streams.models import DeadLetter, Stream
from myometrics_audit.streams.services import stream_resume, stream_row
from myometrics_testing.rsyslog import make_certificates

pytestmark = pytest.mark.django_db


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    folder = make_certificates(tmp_path_factory.mktemp("certificates"))
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    return folder


@contextmanager
def syslog_receiver(**options):
    receiver = SyslogReceiver(**options)
    try:
        yield receiver
    finally:
        receiver.stop()


def configure(settings, url, **options):
    configure_streams(settings, siem={"url": url, "format": "rfc5424", **options})
    return stream_row("siem")


def server_context(folder):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tcp_counts_octets(settings, seal):
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}")
        ids = seal(3, user_agent="Firefox\nÄ€😀")
        assert stream_send("siem") is False
        assert receiver.ids == ids
        assert all(message.startswith(b"<") for message in receiver.messages)
        more = seal(2)
        stream_send("siem")
        assert receiver.ids == ids + more
        assert receiver.connections == 2


def test_tls_with_client_certificate(settings, seal, certificates):
    with syslog_receiver(context=server_context(certificates)) as receiver:
        configure(
            settings,
            f"syslog+tls://127.0.0.1:{receiver.port}",
            ca_file=str(certificates / "ca.pem"),
            cert_file=str(certificates / "client.pem"),
            key_file=str(certificates / "client.key"),
            server_name="siem.example",
        )
        ids = seal(3)
        stream_send("siem")
        assert receiver.ids == ids
        assert stream_row("siem").is_connected is False


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"ca": "other"}, "certificate is not accepted"),
        ({"server_name": "another.example"}, "certificate is not accepted"),
        ({"client": False}, "syslog"),
    ],
)
def test_tls_without_trust_fails(settings, seal, certificates, options, error):
    with syslog_receiver(context=server_context(certificates)) as receiver:
        client = {
            "cert_file": str(certificates / "client.pem"),
            "key_file": str(certificates / "client.key"),
        }
        configure(
            settings,
            f"syslog+tls://127.0.0.1:{receiver.port}",
            ca_file=str(certificates / f"{options.get('ca', 'ca')}.pem"),
            server_name=options.get("server_name", "siem.example"),
            **(client if options.get("client", True) else {}),
        )
        seal(3)
        with pytest.raises(StreamFailed, match=error):
            stream_send("siem")
        assert receiver.messages == []
        assert stream_row("siem").failing_since is not None


def test_https_sends_and_limits_the_time_of_an_answer(settings, seal, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    with http_receiver(context) as receiver:
        options = {"format": "json", "ca_file": str(certificates / "ca.pem"), "batch_size": 1}
        configure(settings, receiver.url, **options)
        ids = seal(2)
        stream_send("siem")
        assert receiver.ids == ids
        configure(settings, receiver.url, **options, timeout_seconds=1)
        seal()
        receiver.decide = lambda documents: Answer(endless=True)
        with pytest.raises(StreamFailed, match="timed out"):
            stream_send("siem")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_tls_is_refused(settings, seal, certificates):
    context = server_context(certificates)
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with syslog_receiver(context=context) as receiver:
        url = f"syslog+tls://127.0.0.1:{receiver.port}"
        configure(settings, url, ca_file=str(certificates / "ca.pem"))
        seal()
        with pytest.raises(StreamFailed):
            stream_send("siem")
        assert receiver.messages == []


def test_unix_stream_socket(settings, seal, tmp_path):
    with syslog_receiver(address=str(tmp_path / "log")) as receiver:
        configure(settings, f"unix+stream://{tmp_path}/log")
        ids = seal(3)
        stream_send("siem")
        assert receiver.ids == ids


def test_unix_datagrams_are_not_framed_and_long_ones_are_set_aside(settings, seal, tmp_path):
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as receiver:
        receiver.bind(str(tmp_path / "log"))
        configure(settings, f"unix://{tmp_path}/log")
        (first,) = seal()
        (long,) = seal(user_agent="x" * 1_000_000)
        (last,) = seal()
        stream_send("siem")
        messages = [receiver.recv(65536) for _ in range(2)]
        assert [json.loads(message[message.index(b"{") :])["id"] for message in messages] == [
            first,
            last,
        ]
        letter = DeadLetter.objects.get()
        assert (letter.entry_id, letter.error[:8]) == (long, "too long")


def test_missing_receiver_is_a_failure(settings, seal, tmp_path):
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # it does not listen, and no other program can have its port
        port = unused.getsockname()[1]
        for url in (f"syslog+tcp://127.0.0.1:{port}", f"unix://{tmp_path}/log"):
            configure(settings, url)
            seal()
            with pytest.raises(StreamFailed, match=r"Connection refused|No such file"):
                stream_send("siem")


# Syslog has no acknowledgement


def test_what_was_sent_last_is_sent_again_after_a_reset(settings, seal):
    with syslog_receiver(reset_after=3) as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}", batch_size=2)
        ids = seal(8)
        with pytest.raises(StreamFailed):
            stream_send("siem")
        receiver.wait_for(3)
        while stream_row("siem").sent_at is None or stream_send("siem"):
            pass
        receiver.wait_for(11)
        assert list(dict.fromkeys(receiver.ids)) == ids


def test_killed_sender_is_continued_some_seconds_earlier(settings, seal):
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}", resend_seconds=10)
        start = timezone.now()
        ids = []
        for seconds in (0, 11, 16):
            with time_machine.travel(start + timedelta(seconds=seconds), tick=False):
                ids.append(seal(2))
                stream_send("siem")
        Stream.objects.update(is_connected=True)  # The sender was killed in the last run.
        with time_machine.travel(start + timedelta(seconds=60), tick=False):
            stream_send("siem")
        # What was sent in the ten seconds before 16 is sent again.
        assert receiver.ids == [*ids[0], *ids[1], *ids[2], *ids[1], *ids[2]]


class Killed(BaseException):
    """Ends a run without a chance to store anything."""


def test_clock_that_is_set_during_a_run_loses_nothing(settings, seal):
    with syslog_receiver() as receiver:
        url = f"syslog+tcp://127.0.0.1:{receiver.port}"
        configure(settings, url, batch_size=1, resend_seconds=10)
        ids = seal(4)

        def set_clock(sent):
            clock.shift(3600)
            if sent == len(ids):
                raise Killed

        with time_machine.travel(timezone.now()) as clock, pytest.raises(Killed):
            stream_send("siem", progress=set_clock)
        receiver.wait_for(4)
        configure(settings, url, resend_seconds=1)
        stream_send("siem")
        assert receiver.ids == ids + ids


def test_orderly_end_sends_nothing_again(settings, seal):
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}")
        ids = [seal(1)[0], seal(1)[0]]
        stream_send("siem")
        ids += seal(1)
        stream_send("siem")
        assert receiver.ids == ids


class TalkingReceiver(SyslogReceiver):
    """Answers single bytes, and never ends its half of the connection."""

    def _read(self, connection):
        super()._read(connection)
        with suppress(OSError):
            while not self.stopped.wait(0.1):
                connection.sendall(b"x")


def test_receiver_that_never_ends_the_connection_is_left(settings, seal):
    receiver = TalkingReceiver()
    try:
        url = f"syslog+tcp://127.0.0.1:{receiver.port}"
        configure(settings, url, timeout_seconds=1, resend_seconds=1)
        ids = seal(2)
        assert stream_send("siem") is False
        receiver.wait_for(2)
        assert receiver.ids == ids
    finally:
        receiver.stop()


@pytest.fixture
def many_open_files():
    """The next file that is opened has a descriptor over 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2048, hard), hard))
    with ExitStack() as files:
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while files.enter_context(open(os.devnull)).fileno() < 1023:
            pass
        yield


def test_sender_may_have_many_open_files(settings, seal, many_open_files):
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}", resend_seconds=1)
        ids = seal(2)
        stream_send("siem")
        assert receiver.ids == ids


def test_receiver_is_not_connected_without_a_selected_entry(settings, seal):
    with syslog_receiver() as receiver:
        url = f"syslog+tcp://127.0.0.1:{receiver.port}"
        configure(settings, url, actions=["login_failed"])
        seal(3)
        assert stream_send("siem") is False
        assert receiver.connections == 0
        assert stream_row("siem").is_connected is False
        ids = seal(1, action="login_failed")
        stream_send("siem")
        assert receiver.ids == ids


def test_frames_of_any_text_are_read_back():
    bodies = [b"", b"12 <1>", "Ä€😀\n\0".encode(), b"x" * 70_000]
    framed = b"".join(b"%d %s" % (len(body), body) for body in bodies)
    assert read_frames(framed) == (bodies, b"")


# Rendering


def test_entry_that_cannot_be_rendered_is_set_aside(settings, seal, monkeypatch):
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}")
        ids = seal(3)
        render = FORMATS["rfc5424"]

        def broken(entry, source):
            if entry.pk == ids[1]:
                raise RuntimeError("patient Smith")
            return render(entry, source)

        monkeypatch.setitem(formats.FORMATS, "rfc5424", broken)
        stream_send("siem")
        assert receiver.ids == [ids[0], ids[2]]
        letter = DeadLetter.objects.get()
        assert (letter.entry_id, letter.error) == (ids[1], "can't be rendered: RuntimeError")


def test_time_limit_of_celery_is_not_an_error_of_an_entry(settings, seal, monkeypatch):
    celery = pytest.importorskip("celery", reason="Celery is optional")
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}")
        ids = seal(2)

        def slow(entry, source):
            raise celery.exceptions.SoftTimeLimitExceeded

        with monkeypatch.context() as patched:
            patched.setitem(formats.FORMATS, "rfc5424", slow)
            with pytest.raises(celery.exceptions.SoftTimeLimitExceeded):
                stream_send("siem")
        assert not DeadLetter.objects.exists()
        stream_send("siem")
        assert receiver.ids == ids


def test_stream_that_cannot_render_anything_stops_and_continues(settings, seal, monkeypatch):
    with syslog_receiver() as receiver:
        configure(settings, f"syslog+tcp://127.0.0.1:{receiver.port}")
        ids = seal(MAX_REFUSED_IN_ROW + 3)

        def broken(entry, source):
            raise RuntimeError

        with monkeypatch.context() as patched:
            patched.setitem(formats.FORMATS, "rfc5424", broken)
            stream_send("siem")
        assert stream_row("siem").state == Stream.State.DEAD
        assert DeadLetter.objects.count() == MAX_REFUSED_IN_ROW
        stream_resume("siem", actor=None)
        stream_send("siem")
        assert receiver.ids == ids[MAX_REFUSED_IN_ROW:]


# Proofs


@pytest.fixture
def storage(settings):
    settings.STORAGES = {
        **settings.STORAGES,
        "evidence": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    }
    return storages["evidence"]


def test_storage_has_a_file_with_proofs_for_each_seal(settings, seal, storage):
    seal()
    configure_streams(settings, vault={"url": "storage://evidence/a/b", "format": "proofs"})
    assert stream_row("vault").seal_number == 2
    ids = seal(3)
    seal()
    assert stream_send("vault", seconds=0) is True
    assert stream_send("vault") is False
    _, names = storage.listdir("a/b")
    assert sorted(names) == ["000000002.jsonl", "000000003.jsonl"]
    text = storage.open("a/b/000000002.jsonl").read().decode()
    assert list(export_problems(text.splitlines())) == []
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["entry"]["id"] for line in lines if line["type"] == "entry"] == ids
    assert stream_row("vault").sent == 4
    assert stream_send("vault") is False


def test_storage_that_fails_is_retried(settings, seal, tmp_path):
    settings.STORAGES = {
        **settings.STORAGES,
        "evidence": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(tmp_path / "folder")},
        },
    }
    (tmp_path / "folder").write_text("a file")
    configure_streams(settings, vault={"url": "storage://evidence", "format": "proofs"})
    stream_row("vault")
    seal()
    with pytest.raises(StreamFailed):
        stream_send("vault")
    (tmp_path / "folder").unlink()
    stream_send("vault")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["000000001.jsonl"]
