"""Ranges of ids that get no new entries, so that statements can leave them out.

An app that partitions the table of entries registers how to read them. Statements name the ids
that they leave out as literals: PostgreSQL then leaves out the partitions when it plans, which
otherwise takes longer with each partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

from myometrics_core.db import fetch_rows

from .models import AuditLog

EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class ClosedRange(NamedTuple):
    """The entries with an id from ``first_id`` up to, but not including, ``end_id``.

    All of them are sealed, and no entry is added any more; entries may be erased. Their times are
    between ``oldest`` and ``newest``, both inclusive; ``None`` if there are no entries. These are
    :func:`microseconds`, because the database driver converts numbers faster than times.
    """

    first_id: int
    end_id: int
    oldest: int | None
    newest: int | None

    def overlaps(self, since: int | None, until: int | None) -> bool:
        """Return whether an entry can be in a span of microseconds; ``until`` is exclusive."""
        if self.oldest is None or self.newest is None:
            return False
        return (since is None or since <= self.newest) and (until is None or self.oldest < until)


def microseconds(moment: datetime | None) -> int | None:
    """Return the microseconds from the start of 1970 (UTC) to ``moment``; ``None`` for ``None``."""
    return None if moment is None else (moment - EPOCH) // timedelta(microseconds=1)


ReadRanges = Callable[[str], Sequence[ClosedRange]]
_readers: list[ReadRanges] = []


def register_closed_ranges(read: ReadRanges) -> None:
    """Read the closed ranges with ``read``, a function of the alias of the database."""
    if read not in _readers:
        _readers.append(read)


def closed_ranges(using: str) -> list[ClosedRange]:
    """Return the closed ranges, which stay valid: a later statement on ``using`` may use them."""
    return [closed for read in _readers for closed in read(using)]


def ranges_with_other_times(using: str) -> list[ClosedRange]:
    """Return the closed ranges with entries outside of their times: lists may leave these out."""
    table = AuditLog._meta.db_table
    return [
        closed
        for closed in closed_ranges(using)
        if fetch_rows(
            f'SELECT 1 FROM "{table}" WHERE id >= {closed.first_id:d} AND id < {closed.end_id:d} '
            "HAVING (extract(epoch FROM min(timestamp)) * 1000000)::bigint "
            "< coalesce(%s::bigint, 9223372036854775807) "
            "OR (extract(epoch FROM max(timestamp)) * 1000000)::bigint "
            "> coalesce(%s::bigint, -9223372036854775808)",
            [closed.oldest, closed.newest],
            using=using,
        )
    ]


def without_ranges(ranges: Iterable[ClosedRange]) -> str:
    """Return SQL that leaves out the entries of ``ranges``, to append to a WHERE.

    The table of entries is called ``a``.
    """
    runs: list[tuple[int, int]] = []
    for closed in sorted(ranges, key=lambda one: one.first_id):
        if runs and runs[-1][1] == closed.first_id:
            runs[-1] = (runs[-1][0], closed.end_id)
        else:
            runs.append((closed.first_id, closed.end_id))
    return "".join(f' AND (a."id" < {first:d} OR a."id" >= {end:d})' for first, end in runs)
