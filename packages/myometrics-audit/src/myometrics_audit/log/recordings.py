"""Recordings: the actor and purpose of a block of code, and entries that survive its rollback.

A durable entry is written in the transaction at once, so that it is there if the process is killed
after the commit. When the recording around the transaction ends, entries that a rollback has
removed are written again. A second connection would not need to wait for the end, but SQLite has
one writer, and on PostgreSQL it could wait for a lock on the user that its own request holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.db import DatabaseError, connections, router, transaction

from myometrics_core.db import is_serialization_failure
from myometrics_core.times import utc_now

from .models import AuditLog
from .services import ActorDeleted, NewEntry, entries_record, new_row

MIDDLEWARE: Final = "myometrics_audit.middleware.RecordingMiddleware"
OUTSIDE: Final = (
    "A durable entry can't survive the rollback of this transaction: put the whole transaction "
    f"into 'with audit.recording():', or add {MIDDLEWARE!r} to MIDDLEWARE."
)


class NotDurable(RuntimeError):
    """A durable entry in a transaction that is in no recording."""


_current: ContextVar[Recording | None] = ContextVar("myometrics_audit_recording", default=None)


@dataclass(eq=False)
class Recording:
    """The context manager of ``audit.recording``, for ``with`` and ``async with``.

    ``facts`` are values for fields of :class:`NewEntry`. ``is_outermost`` is for code that no
    transaction of the site contains, such as a middleware.
    """

    facts: dict[str, Any]
    is_outermost: bool = False
    _pending: list[tuple[NewEntry, AuditLog]] = field(default_factory=list)
    _outer: Recording | None = None
    _token: Token[Recording | None] | None = None
    _is_open: bool = False
    _is_enclosed: bool = False

    def __enter__(self) -> Recording:
        if self._token is not None:
            raise RuntimeError("A recording is for one block: call audit.recording() for each.")
        self._outer = current_recording()
        if self._outer is not None:
            self.facts = {**self._outer.facts, **self.facts}
        if self._outer is not None and self._outer.is_open:
            self._is_enclosed = self._outer._is_enclosed
        elif not self.is_outermost:
            self._is_enclosed = _is_in_transaction(router.db_for_write(AuditLog))
        self._is_open = True
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        self._write_lost()

    async def __aenter__(self) -> Recording:
        return self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()
        if self._pending:
            await sync_to_async(self._write_lost)()

    @property
    def is_open(self) -> bool:
        """Whether the block is still running; tasks that it started may outlive it."""
        return self._is_open

    def record(self, entries: Sequence[NewEntry], using: str) -> list[AuditLog]:
        """Write entries in the current transaction, and again at the end if they are lost."""
        if self._is_enclosed:
            raise NotDurable(OUTSIDE)
        rows: list[AuditLog] = []
        if not transaction.get_rollback(using):
            try:
                rows = entries_record(entries)
            except DatabaseError as error:
                # The transaction is aborted: the entries are written at the end of the recording.
                if is_serialization_failure(error):
                    raise
        rows = rows or [new_row(entry) for entry in entries]
        self._pending.extend(zip(entries, rows, strict=True))
        return rows

    def _leave(self) -> None:
        self._is_open = False
        if self._token is not None:
            _current.reset(self._token)

    def _write_lost(self) -> None:
        if not self._pending:
            return
        using = router.db_for_write(AuditLog)
        if connections[using].in_atomic_block:
            if self._outer is not None and self._outer.is_open:
                self._outer._pending.extend(self._pending)
                return
            if not self.is_outermost and _is_in_transaction(using):
                raise NotDurable(OUTSIDE)
        lost = _lost_entries(self._pending, using)
        if lost:
            _record_again(lost)


def current_recording() -> Recording | None:
    """Return the innermost open recording of this thread or task."""
    return _current.get()


def entries_record_durably(entries: Sequence[NewEntry]) -> list[AuditLog]:
    """Write entries that survive a rollback of the caller's transaction.

    Returns the rows, without ids if the transaction can no longer write. Raises ``NotDurable`` in
    a transaction that is in no recording, and the errors of :func:`entry_record`.
    """
    using = router.db_for_write(AuditLog)
    if not connections[using].in_atomic_block:
        return entries_record(entries)
    recording = current_recording()
    if recording is None or not recording.is_open:
        if _is_in_transaction(using):
            raise NotDurable(OUTSIDE)
        return entries_record(entries)
    now = utc_now()
    timed = [replace(entry, occurred_at=entry.occurred_at or now) for entry in entries]
    return recording.record(timed, using)


def _is_in_transaction(using: str) -> bool:
    """Return whether there is a transaction other than that of a ``TestCase``."""
    if not connections[using].in_atomic_block:
        return False
    try:
        # Django refuses a durable block in a transaction, unless it is that of a TestCase.
        with transaction.atomic(using, savepoint=False, durable=True):
            return False
    except RuntimeError:
        return True


def _lost_entries(pending: Sequence[tuple[NewEntry, AuditLog]], using: str) -> list[NewEntry]:
    ids = [row.pk for _, row in pending if row.pk is not None]
    rows = AuditLog.objects.using(using).filter(pk__in=ids).values_list("pk", "nonce")
    # SQLite assigns an id again after a rollback; a nonce is unique.
    stored = {(key, bytes(nonce)) for key, nonce in rows}
    return [entry for entry, row in pending if (row.pk, bytes(row.nonce)) not in stored]


def _record_again(entries: Sequence[NewEntry]) -> None:
    try:
        entries_record(entries)
    except ActorDeleted:
        for entry in entries:
            _record_without_deleted_actor(entry)


def _record_without_deleted_actor(entry: NewEntry) -> None:
    try:
        entries_record([entry])
    except ActorDeleted:
        anonymous = replace(entry, actor_id=None, client_address=None, user_agent="")
        entries_record([anonymous])
