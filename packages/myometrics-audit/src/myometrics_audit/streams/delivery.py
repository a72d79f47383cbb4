"""Delivery of a stream: at least once, in seal order, resumable.

The position is saved after each batch, by a conditional UPDATE: a sender that was replaced by
another one, paused or set back stops there. Writers of the log are never involved.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from django.core.exceptions import ImproperlyConfigured
from django.db import Error as DatabaseError
from django.db import router
from django.db.models import F, QuerySet
from django.utils import timezone

from myometrics_core.db import atomic_write
from myometrics_core.texts import storable_text

from .formats import FORMATS, RENDER_FAILURES
from .models import DeadLetter, Stream
from .options import PROOFS, StreamOptions, stream_options, stream_source
from .pending import Pending, Position, position_of, read_pending
from .positions import add_mark, drop_old_marks
from .proof_files import next_seal_number, write_seal
from .services import stream_row
from .transports import (
    MAX_RETRY_AFTER,
    TRANSPORT_FAILURES,
    Message,
    MessagesRefused,
    ReceiverFailed,
    Transport,
    describe_failure,
    make_transport,
)

logger = logging.getLogger("myometrics.audit.stream")

MAX_REFUSED_IN_ROW: Final = 20
"""After so many refused entries without an accepted one the settings are wrong, not the entries."""
MAX_READ: Final = 1000
SUCCESS: Final[dict[str, Any]] = {
    "failing_since": None,
    "failures": 0,
    "last_error": "",
    "retry_at": None,
}
Progress = Callable[[int], object]
"""Called with the number of messages sent in this run."""


def no_progress(sent: int) -> None:
    """Ignore the progress."""


class StreamFailed(Exception):
    """The receiver can't take messages now. The text has no secrets.

    ``failures`` is the number of runs that have failed in a row without sending anything.
    """

    def __init__(self, text: str, failures: int = 1) -> None:
        super().__init__(text)
        self.failures = failures


class SenderReplaced(Exception):
    """Another process sends the stream now, or it was paused or set back."""


def stream_send(
    name: str, *, seconds: float = float("inf"), progress: Progress = no_progress
) -> bool:
    """Send pending entries for about ``seconds``; return whether some may be left.

    Raises ``StreamFailed``.
    """
    stream = stream_row(name)
    if stream.state != Stream.State.RUNNING or not _is_due(stream):
        return False
    try:
        options = stream_options(name)
    except ImproperlyConfigured as error:
        since = stream.failing_since or timezone.now()
        text = storable_text(str(error), 200)
        Stream.objects.filter(pk=name).update(failing_since=since, last_error=text)
        raise StreamFailed(str(error)) from error
    run = StreamRun(options, stream, ends=time.monotonic() + seconds, progress=progress)
    try:
        return run.send_proofs() if options.format == PROOFS else run.send_messages()
    except SenderReplaced:
        logger.info("Stream %s was taken over, paused or set back", name)
        return False
    except (ReceiverFailed, *TRANSPORT_FAILURES) as error:
        text = f"{options.place}: {describe_failure(error)}"
        if not run.note_failure(text, getattr(error, "retry_after", None)):
            return False
        raise StreamFailed(text, run.failures) from error
    except DatabaseError:
        raise  # Not a failure of the receiver.
    except Exception as error:
        run.note_failure(f"{options.place}: {describe_failure(error)}", None)
        raise


def _is_due(stream: Stream) -> bool:
    """Return whether the time that the receiver named has come, or the clock was set back."""
    wait = timedelta(0) if stream.retry_at is None else stream.retry_at - timezone.now()
    return not timedelta(0) < wait <= MAX_RETRY_AFTER


class StreamRun:
    """One run of a stream, with its own connection."""

    def __init__(
        self, options: StreamOptions, stream: Stream, *, ends: float, progress: Progress
    ) -> None:
        self._options, self._stream, self._ends = options, stream, ends
        self._clock_offset = time.time() - time.monotonic()
        self._progress = progress
        self._token = uuid.uuid4()
        self._position = position_of(stream)
        self._marks: list[list[float]] = stream.marks
        self._sent = 0
        self._is_acknowledged = True
        self._is_open = False
        self.failures = stream.failures

    def send_messages(self) -> bool:
        """Send until nothing is pending or the time is over; return whether some may be left."""
        transport = make_transport(self._options)
        self._is_acknowledged = transport.is_acknowledged
        if self._stream.is_connected:
            self._go_back()  # The last sender was killed.
        pending = self._read()
        if not pending:
            self._note_idle()
            return False
        self._begin()
        try:
            while pending and self._send_all(transport, pending):
                pending = self._read()
            ended = self._now()
            if self._is_open:
                transport.close()
        finally:
            transport.abort()
        self._finish(ended)
        return bool(pending) and self._stream.state == Stream.State.RUNNING

    def send_proofs(self) -> bool:
        """Write a file for each pending seal; return whether some may be left."""
        number = next_seal_number(self._position.seal_number)
        if number is None:
            self._note_idle()
            return False
        self._begin()
        while number is not None and not self._is_over():
            try:
                entries = write_seal(self._options, number)
            except Exception as error:  # Each storage has its own.
                raise ReceiverFailed(describe_failure(error)) from error
            self._position = Position(number + 1, 0)
            self._save(entries)
            number = next_seal_number(number + 1)
        return number is not None

    def note_failure(self, text: str, retry_after: timedelta | None) -> bool:
        """Store the error; return ``False`` if the stream has another sender now.

        Without acknowledgement, what was sent last is sent again.
        """
        self._go_back()
        now = timezone.now()
        self.failures = 1 if self._sent else self._stream.failures + 1
        try:
            self._update(
                failures=self.failures,
                last_error=storable_text(text, 200),
                failing_since=min(self._stream.failing_since or now, now),
                retry_at=now + retry_after if retry_after else None,
                is_connected=False,
                **self._place(),
            )
        except SenderReplaced:
            return False
        return True

    def _read(self) -> list[Pending]:
        return read_pending(self._options, self._position, MAX_READ)

    def _begin(self) -> None:
        """Become the sender of the stream."""
        values: dict[str, Any] = {"sender": self._token}
        if not self._is_acknowledged:
            now = self._now()
            self._marks = drop_old_marks(self._marks, now - self._options.resend_seconds)
            self._marks = self._marks or add_mark([], now, self._position)
            values |= {"is_connected": True, **self._place()}
        if not self._unchanged().update(**values):
            raise SenderReplaced

    def _note_idle(self) -> None:
        """Clear the error if nothing is pending: the options may have been fixed."""
        if self._stream.failing_since is not None:
            self._unchanged().update(**SUCCESS)

    def _unchanged(self) -> QuerySet[Stream]:
        """Return the row, unless it was changed or has another sender since it was read."""
        return Stream.objects.filter(
            pk=self._stream.pk, state=Stream.State.RUNNING, sender=self._stream.sender
        )

    def _send_all(self, transport: Transport, pending: Sequence[Pending]) -> bool:
        """Send the entries in batches; return whether there is time left."""
        for messages, position in self._batches(pending):
            if not self._deliver(transport, messages):
                return False
            if self._position != position:  # Entries that were erased, or are not selected.
                self._position = position
                self._save(0)
            if self._is_over():
                return False
        return True

    def _now(self) -> float:
        """Return the time for marks: if the clock is set during a run, they don't age."""
        return time.monotonic() + self._clock_offset

    def _is_over(self) -> bool:
        return time.monotonic() >= self._ends

    def _batches(self, pending: Sequence[Pending]) -> Iterator[tuple[list[Message], Position]]:
        """Yield batches, each with the position after it."""
        messages: list[Message] = []
        size, position = 0, self._position
        for one in pending:
            try:
                message = self._render(one)
            except RENDER_FAILURES as error:  # Such an entry must not block the others.
                logger.exception("Entry %s can't be rendered", one.position.entry_id)
                yield messages, position
                messages, size, position = [], 0, one.position
                self._position = position
                self._set_aside(position.entry_id, f"can't be rendered: {type(error).__name__}")
                continue
            if message is not None:
                is_full = len(messages) >= self._options.messages_per_batch
                if messages and (is_full or size + len(message.body) > self._options.batch_bytes):
                    yield messages, position
                    messages, size = [], 0
                messages.append(message)
                size += len(message.body)
            position = one.position
        yield messages, position

    def _render(self, one: Pending) -> Message | None:
        if one.entry is None:
            return None
        body = FORMATS[self._options.format](one.entry, stream_source())
        return Message(one.entry, one.position, body)

    def _deliver(self, transport: Transport, messages: Sequence[Message]) -> bool:
        """Send a batch; return whether each message was accepted or set aside.

        A batch that is refused is divided, until the refused entry is alone.
        """
        if self._stream.state != Stream.State.RUNNING:
            return False
        if not messages:
            return True
        try:
            if not self._is_open:  # Not before: a stream may select few entries.
                transport.open()
                self._is_open = True
            transport.send(messages)
        except ReceiverFailed as error:
            if self._accept_others(messages[: error.accepted], error.refused):
                raise
            return False
        except MessagesRefused as error:
            if error.refused is None:
                return self._divide(transport, messages)
            return self._accept_others(messages, error.refused)
        self._accept(messages)
        return True

    def _divide(self, transport: Transport, messages: Sequence[Message]) -> bool:
        # When the time is over, still send one entry: each run has to save a position.
        middle = 1 if self._is_over() else len(messages) // 2
        if not self._deliver(transport, messages[:middle]) or self._is_over():
            return False
        return self._deliver(transport, messages[middle:])

    def _accept(self, messages: Sequence[Message]) -> None:
        if messages:
            self._position = messages[-1].position
            self._stream.refused_in_row = 0
            self._save(len(messages))

    def _accept_others(self, messages: Sequence[Message], refused: Mapping[int, str]) -> bool:
        """Save which messages arrived; return ``False`` if the stream was stopped."""
        first = 0
        for index, reason in sorted(refused.items()):
            self._accept(messages[first:index])
            self._position, first = messages[index].position, index + 1
            self._set_aside(messages[index].entry.pk, reason)
            if self._stream.state != Stream.State.RUNNING:
                return False
        self._accept(messages[first:])
        return True

    def _set_aside(self, entry_id: int, error: str) -> None:
        """Store a refused entry, and stop the stream after too many in a row."""
        now = timezone.now()
        self._stream.refused_in_row += 1
        values: dict[str, Any] = {"refused_in_row": self._stream.refused_in_row}
        if self._stream.refused_in_row >= MAX_REFUSED_IN_ROW:
            self._stream.state = Stream.State.DEAD
            values |= {"state": Stream.State.DEAD, "last_error": error, "failing_since": now}
            logger.error("Stream %s stopped: %s", self._stream, error)
        letter = DeadLetter(stream=self._stream, entry_id=entry_id, error=error, refused_at=now)
        with atomic_write(router.db_for_write(Stream)):
            self._update(**values, **self._place())
            DeadLetter.objects.bulk_create([letter], ignore_conflicts=True)

    def _save(self, sent: int) -> None:
        self._sent += sent
        values: dict[str, Any] = {"refused_in_row": self._stream.refused_in_row}
        if sent:
            values |= {"sent": F("sent") + sent, "sent_at": timezone.now()}
        if self._is_acknowledged:
            values |= SUCCESS
            self._stream.failing_since = None
        else:
            now = self._now()
            self._marks = add_mark(self._marks, now, self._position)
            self._marks = drop_old_marks(self._marks, now - self._options.resend_seconds)
        self._update(**values, **self._place())
        self._progress(self._sent)

    def _finish(self, ended: float) -> None:
        """Store that the connection ended in order."""
        values = SUCCESS if self._stream.state == Stream.State.RUNNING else {}
        if not self._is_acknowledged:
            self._marks = add_mark(self._marks, ended, self._position, is_last=True)
        self._update(**values, is_connected=False, **self._place())

    def _go_back(self) -> None:
        """Go back to where the stream was some seconds before it sent for the last time."""
        if self._marks and not self._is_acknowledged:
            self._marks = self._marks[:1]
            self._position = Position(int(self._marks[0][1]), int(self._marks[0][2]))

    def _place(self) -> dict[str, Any]:
        seal_number, entry_id = self._position
        return {"seal_number": seal_number, "entry_id": entry_id, "marks": self._marks}

    def _update(self, **values: Any) -> None:
        if not Stream.objects.filter(pk=self._stream.pk, sender=self._token).update(**values):
            raise SenderReplaced
