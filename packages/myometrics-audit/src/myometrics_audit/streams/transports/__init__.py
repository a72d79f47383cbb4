"""Transports: how messages reach a receiver."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.core.exceptions import ImproperlyConfigured

from ..options import StreamOptions
from .base import (
    TRANSPORT_FAILURES,
    Message,
    MessagesRefused,
    ReceiverFailed,
    Transport,
    describe_failure,
)
from .https import MAX_RETRY_AFTER, HttpTransport
from .syslog import DatagramTransport, SyslogTransport

__all__ = [
    "MAX_RETRY_AFTER",
    "TRANSPORT_FAILURES",
    "Message",
    "MessagesRefused",
    "ReceiverFailed",
    "Transport",
    "describe_failure",
    "make_transport",
]


TRANSPORTS: Final[dict[str, Callable[[StreamOptions], Transport]]] = {
    "https": HttpTransport,
    "http": HttpTransport,
    "syslog+tls": SyslogTransport,
    "syslog+tcp": SyslogTransport,
    "unix+stream": SyslogTransport,
    "unix": DatagramTransport,
}


def make_transport(options: StreamOptions) -> Transport:
    """Return the transport for the scheme of the stream's URL."""
    if options.scheme not in TRANSPORTS:
        raise ImproperlyConfigured(f"{options.place} has files, and takes no single messages.")
    return TRANSPORTS[options.scheme](options)
