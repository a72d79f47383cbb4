"""Receivers of streams for tests: HTTP servers that fail on purpose, and syslog servers."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from myometrics_audit.streams.jobs import register_jobs
from myometrics_testing.waiting import wait_for


def configure_streams(settings, **streams):
    """Configure streams, each by its options, and register their jobs."""
    settings.MYOMETRICS_AUDIT = {**settings.MYOMETRICS_AUDIT, "STREAMS": streams}
    register_jobs()


@dataclass
class Answer:
    """An answer of the HTTP receiver; ``None`` as status closes the connection without one.

    If it is ``endless``, single bytes follow until the sender closes the connection.
    """

    status: int | None = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    endless: bool = False


@dataclass
class HttpReceiver:
    """What an HTTP server has accepted; ``decide`` answers each request."""

    url: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    accepted: list[Any] = field(default_factory=list)
    decide: Callable[[list[Any]], Answer] = lambda documents: Answer()
    released: Event = field(default_factory=Event)

    @property
    def ids(self):
        return [document["id"] for document in self.accepted]


def documents_of(body):
    text = body.decode()
    if text.startswith("["):
        return json.loads(text)
    found = [json.loads(line) for line in text.splitlines()]
    if found and found[0].get("resourceType") == "Bundle":
        return [entry["resource"] for entry in found[0]["entry"]]
    return [document.get("event", document) for document in found]


class Server(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """Print nothing: clients may close a connection early."""


def send_endless_answer(file, released):
    file.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not released.wait(0.1):
        file.write(b"x")


@contextmanager
def http_receiver(context=None):
    receiver = HttpReceiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.requests.append((self.path, dict(self.headers), body))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            documents = documents_of(body)
            answer = receiver.decide(documents)
            if answer.status is None:
                self.close_connection = True
                return
            if answer.status < 300:
                receiver.accepted += documents
            if answer.endless:
                self.close_connection = True
                send_endless_answer(self.wfile, receiver.released)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *args):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    receiver.url = f"http{'s' if context else ''}://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        receiver.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def read_frames(data):
    """Return the messages of octet-counted data, and what is left of an unfinished one."""
    messages = []
    while (space := data.find(b" ")) > 0:
        length = int(data[:space])
        end = space + 1 + length
        if len(data) < end:
            break
        messages.append(data[space + 1 : end])
        data = data[end:]
    return messages, data


class SyslogReceiver:
    """A server on a stream socket. ``reset_after`` messages it resets the connection once."""

    def __init__(self, address="127.0.0.1", context=None, reset_after=None):
        self.messages: list[bytes] = []
        self.connections = 0
        self.reset_after = reset_after
        self.stopped = Event()
        self._context = context
        family = socket.AF_UNIX if isinstance(address, str) and "/" in address else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.bind(address if family == socket.AF_UNIX else (address, 0))
        self._listener.listen()
        self.port = None if family == socket.AF_UNIX else self._listener.getsockname()[1]
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def ids(self):
        return [
            json.loads(message.partition(b"{")[1] + message.partition(b"{")[2])["id"]
            for message in self.messages
        ]

    def stop(self):
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def wait_for(self, count):
        wait_for(lambda: len(self.messages) >= count)

    def _run(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                if self._context:
                    connection = self._context.wrap_socket(connection, server_side=True)
                self._read(connection)
            except (OSError, ssl.SSLError):
                pass
            finally:
                connection.close()

    def _read(self, connection):
        rest = b""
        while data := connection.recv(65536):
            messages, rest = read_frames(rest + data)
            for message in messages:
                if self.reset_after == 0:
                    self.reset_after = None
                    linger = b"\1\0\0\0\0\0\0\0"
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                if self.reset_after is not None:
                    self.reset_after -= 1
                self.messages.append(message)
