"""Refused entries: send them again, after the receiver or the format was fixed."""

from __future__ import annotations

from .delivery import StreamFailed
from .formats import FORMATS, RENDER_FAILURES
from .models import DeadLetter
from .options import StreamOptions, stream_options, stream_source
from .pending import Position, selected_entries
from .transports import (
    TRANSPORT_FAILURES,
    Message,
    MessagesRefused,
    ReceiverFailed,
    Transport,
    describe_failure,
    make_transport,
)


def dead_letters_send(name: str) -> tuple[int, int]:
    """Send each refused entry of a stream once more, alone; return how many were sent and refused.

    Those that were erased are dropped. Raises ``StreamFailed`` if the receiver can't be reached:
    then all of them stay.
    """
    letters = DeadLetter.objects.filter(stream=name).order_by("entry_id")
    if not letters:
        return 0, 0
    options = stream_options(name)
    transport = make_transport(options)
    settled: list[int] = []
    sent = refused = 0
    try:
        transport.open()
        for letter in letters:
            try:
                sent += _send(letter, options, transport)
                settled.append(letter.pk)
            except MessagesRefused:
                refused += 1
        transport.close()  # Only now has a receiver without acknowledgement read them.
    except (ReceiverFailed, *TRANSPORT_FAILURES) as error:
        raise StreamFailed(f"{options.place}: {describe_failure(error)}") from error
    finally:
        transport.abort()
    DeadLetter.objects.filter(pk__in=settled).delete()
    return sent, refused


def _send(letter: DeadLetter, options: StreamOptions, transport: Transport) -> bool:
    """Send one entry; return ``False`` if it doesn't exist any more."""
    entry = selected_entries(options).filter(pk=letter.entry_id).first()
    if entry is None:
        return False
    try:
        body = FORMATS[options.format](entry, stream_source())
    except RENDER_FAILURES as error:
        raise MessagesRefused(f"can't be rendered: {type(error).__name__}") from error
    transport.send([Message(entry, Position(0, letter.entry_id), body)])
    return True
