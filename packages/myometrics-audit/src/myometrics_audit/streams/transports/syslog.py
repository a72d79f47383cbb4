"""Syslog over TLS (RFC 5425) and TCP (RFC 6587) with octet counting, and over Unix sockets."""

from __future__ import annotations

import errno
import selectors
import socket
import ssl
import time
from collections.abc import Sequence

from ..options import StreamOptions
from .base import LOST, Message, MessagesRefused, ReceiverFailed, Transport, send_each, tls_context
from .sockets import seconds_left


def frame(body: bytes) -> bytes:
    """Return a message with its length before it: octet counting."""
    return b"%d %s" % (len(body), body)


class SyslogTransport(Transport):
    """A stream socket. Syslog has no acknowledgement: see :meth:`close`."""

    is_acknowledged = False

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._socket: socket.socket | None = None

    def open(self) -> None:
        options, timeout = self._options, self._options.timeout_seconds
        if options.scheme == "unix+stream":
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.settimeout(timeout)
            self._socket.connect(options.parts.path)
            return
        connection = socket.create_connection((options.host, options.port), timeout)
        self._socket = connection
        if options.scheme == "syslog+tls":
            name = options.server_name or options.host
            self._socket = tls_context(options).wrap_socket(connection, server_hostname=name)

    def send(self, messages: Sequence[Message]) -> None:
        connection = self._connected()
        self._check_open(connection)
        connection.sendall(b"".join(frame(message.body) for message in messages))

    def close(self) -> None:
        """End the connection, and wait until the receiver has done so as well.

        A receiver closes after it has read everything. A reset, or the end of a connection that we
        have not ended, is a failure: what it had not read yet is lost.
        """
        connection = self._connected()
        self._watch(connection)
        ends = time.monotonic() + self._options.timeout_seconds
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection = connection.unwrap()
            connection.shutdown(socket.SHUT_WR)
            connection.settimeout(seconds_left(ends))
            while connection.recv(4096):
                connection.settimeout(seconds_left(ends))
        except (TimeoutError, ssl.SSLEOFError):
            pass  # The receiver keeps its side open, or closes it without a TLS close alert.
        finally:
            self.abort()

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise ReceiverFailed("there is no connection")
        return self._socket

    def _watch(self, connection: socket.socket) -> None:
        """Keep the connection open for a while: a receiver that dies now has lost messages."""
        ends = time.monotonic() + self._options.resend_seconds
        self._check_open(connection)
        while (left := ends - time.monotonic()) > 0:
            if _is_readable(connection, left):
                self._check_open(connection)

    def _check_open(self, connection: socket.socket) -> None:
        """Raise if the receiver has closed: a write into a closed connection may succeed."""
        if not _is_readable(connection, 0):
            return
        connection.settimeout(0)
        try:
            if not connection.recv(4096):
                raise ReceiverFailed(LOST)
        except (BlockingIOError, ssl.SSLWantReadError):
            pass  # For example a session ticket of TLS 1.3.
        finally:
            connection.settimeout(self._options.timeout_seconds)


def _is_readable(connection: socket.socket, seconds: float) -> bool:
    """Wait until there is something to read; ``select`` can't have file descriptors over 1023."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        return bool(selector.select(seconds))


class DatagramTransport(Transport):
    """A datagram socket of this machine, such as ``/dev/log``: one message is one datagram."""

    is_acknowledged = False

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(self._options.timeout_seconds)
        self._socket.connect(self._options.parts.path)

    def send(self, messages: Sequence[Message]) -> None:
        send_each(messages, self._send)

    def abort(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    close = abort

    def _send(self, message: Message) -> None:
        if self._socket is None:
            raise ReceiverFailed("there is no connection")
        try:
            self._socket.send(message.body)
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            text = f"too long for a datagram ({len(message.body)} bytes)"
            raise MessagesRefused(text) from None
