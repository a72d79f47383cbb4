"""Sockets for HTTP connections, which limit the total time of a response."""

from __future__ import annotations

import socket
import ssl
import time
from http.client import HTTPConnection
from typing import Any


def seconds_left(ends: float) -> float:
    """Return the seconds until ``ends`` on the monotonic clock; raise ``TimeoutError`` if none."""
    left = ends - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class TimedSocket(socket.socket):
    """A socket that limits the time of a request and its response.

    The timeout of a socket is for each read: a receiver that sends single bytes would never exceed
    it. Python limits writes and TLS handshakes as a whole.
    """

    _ends = 0.0

    def limit(self, seconds: float) -> None:
        """Raise ``TimeoutError`` if a response isn't complete after this time."""
        self.settimeout(seconds)
        self._ends = time.monotonic() + seconds

    def recv_into(self, *args: Any, **kwargs: Any) -> int:
        self.settimeout(seconds_left(self._ends))
        return super().recv_into(*args, **kwargs)


class TimedTLSSocket(TimedSocket, ssl.SSLSocket):
    """The same with TLS: for ``sslsocket_class`` of a context."""


class TimedConnection(HTTPConnection):
    """An HTTP connection without TLS on a ``TimedSocket``."""

    def connect(self) -> None:
        super().connect()
        timeout = self.sock.gettimeout()
        self.sock = TimedSocket(fileno=self.sock.detach())
        self.sock.settimeout(timeout)
