"""What all transports have in common: the interface, the errors, TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException, RemoteDisconnected

from ...log.models import AuditLog
from ..options import StreamOptions
from ..pending import Position

TRANSPORT_FAILURES = (OSError, HTTPException)
"""Errors of connections, TLS and files; the stream tries again later."""
LOST = "the receiver closed the connection"


@dataclass(frozen=True)
class Message:
    """One rendered entry, and its place in the log."""

    entry: AuditLog
    position: Position
    body: bytes


class ReceiverFailed(Exception):
    """The receiver can't take messages now. The text has no secrets: it is stored.

    The first ``accepted`` messages of the batch arrived, except those that were ``refused``.
    """

    def __init__(
        self,
        text: str,
        *,
        accepted: int = 0,
        refused: Mapping[int, str] | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(text)
        self.accepted = accepted
        self.refused = {
            index: reason for index, reason in (refused or {}).items() if index < accepted
        }
        self.retry_after = retry_after


class MessagesRefused(Exception):
    """The receiver will never take some messages of a batch.

    ``refused`` has the reason for each by its index; the others arrived. ``None`` if the receiver
    didn't say which ones, and took none: then the batch has to be divided.
    """

    def __init__(self, text: str, refused: Mapping[int, str] | None = None) -> None:
        super().__init__(text)
        self.refused = refused


def describe_failure(error: Exception) -> str:
    """Return a text without secrets: without the receiver's response and the URL."""
    if isinstance(error, ReceiverFailed):
        return str(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, RemoteDisconnected):
        return LOST
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f": {error.filename}" if error.filename else "")
    return str(error) if isinstance(error, TimeoutError) else type(error).__name__


def send_each(messages: Sequence[Message], send: Callable[[Message], object]) -> None:
    """Send messages one by one, and report the failure of some as that of a batch."""
    refused: dict[int, str] = {}
    for index, message in enumerate(messages):
        try:
            send(message)
        except MessagesRefused as error:
            refused[index] = str(error)
        except (ReceiverFailed, *TRANSPORT_FAILURES) as error:
            raise ReceiverFailed(
                describe_failure(error),
                accepted=index,
                refused=refused,
                retry_after=getattr(error, "retry_after", None),
            ) from error
    if refused:
        raise MessagesRefused("some are refused", refused)


class Transport:
    """A connection to the receiver, for one run of a stream."""

    is_acknowledged: bool = True
    """Whether the receiver confirms each batch."""

    def open(self) -> None:
        """Connect."""

    def send(self, messages: Sequence[Message]) -> None:
        """Send a batch in order.

        Raises ``ReceiverFailed``, ``MessagesRefused`` or one of ``TRANSPORT_FAILURES``.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close in order: raises if the receiver may not have read everything."""

    def abort(self) -> None:
        """Close at once, without errors."""


def tls_context(options: StreamOptions) -> ssl.SSLContext:
    """Return a context that checks the receiver's certificate and name, with TLS 1.2 or newer."""
    context = ssl.create_default_context(cafile=options.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.cert_file:
        context.load_cert_chain(options.cert_file, options.key_file)
    return context
