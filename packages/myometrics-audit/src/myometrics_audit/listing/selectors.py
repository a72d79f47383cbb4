"""Selectors of the audit log: exact counts and fast pages at any size.

An exact count is the stored count of sealed entries plus the number of unsealed entries, read in
one statement and so in one snapshot. A deep page skips months and days by their stored counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.db import router
from django.utils.translation import gettext as _

from myometrics_core.db import fetch_rows, read_in_batches
from myometrics_core.events import Event

from ..log.events import activity_of
from ..log.models import AuditLog, EntryCount, Leaf, Verification
from ..log.querysets import AuditLogQuerySet
from ..log.rows import DETAIL_COLUMNS, read_rows
from ..sealing.scopes import SEPARATOR
from .deep_pages import PageSlice, page_plan
from .selection import Selection

__all__ = [
    "activities_replay",
    "counted_actions",
    "counted_resource_types",
    "entries_count",
    "entries_of_user",
    "entries_page",
    "entries_select",
    "entry_find",
    "entry_rows_page",
    "evidence_state",
    "oldest_failed_sign_in",
    "parse_entry_id",
    "unsealed_count",
]

Period = EntryCount.Period
LONGEST_ID = 18
"""Maximum digits of an id: every number of this length fits the column."""


def entries_select(selection: Selection) -> AuditLogQuerySet:
    """Return the entries of a selection, newest first."""
    return AuditLog.objects.matching(selection).order_by("-timestamp", "-id")


def entries_count(entries: AuditLogQuerySet) -> int:
    """Return the exact number of ``entries``."""
    selection = entries.selection
    if selection is None or selection.scope is None:
        return entries.order_by().count()
    sql, values = _count_sql(selection, entries.db)
    return int(fetch_rows(f"SELECT {sql}", values, using=entries.db)[0][0])


def entries_page(entries: AuditLogQuerySet, offset: int, limit: int) -> list[Any]:
    """Return at most ``limit`` entries after the newest ``offset`` of ``entries``.

    ``entries`` must be ordered newest first. If it comes from :func:`entries_select`, the cost
    is nearly independent of ``offset``.
    """
    if entries.selection is None:
        return list(entries[offset : offset + limit])
    rows: list[Any] = []
    for part in page_plan(entries.selection, offset, limit, using=entries.db).slices:
        rows += _slice_instances(entries, part)
    return rows


def entry_rows_page(
    selection: Selection, offset: int, limit: int
) -> tuple[int, list[dict[str, Any]]]:
    """Return the exact count of a selection, and ``limit`` rows after the newest ``offset``.

    Rows are dictionaries of :data:`~myometrics_audit.log.rows.COLUMNS`. One statement reads count and
    rows, except for deep pages.
    """
    using = router.db_for_read(AuditLog)
    plan = page_plan(selection, offset, limit, using=using)
    total = plan.total
    rows: list[dict[str, Any]] = []
    for part in plan.slices:
        sql, values = _count_sql(selection, using) if total is None else ("NULL", [])
        found, counted = _slice_rows(selection, part, sql, values, using)
        rows += found
        total = counted if total is None else total
    if total is None:
        total = entries_count(entries_select(selection))
    return int(total), rows


def parse_entry_id(text: str) -> int | None:
    """Parse the id of an entry, which need not exist; return ``None`` if ``text`` is invalid."""
    can_be = text.isascii() and text.isdigit() and len(text) <= LONGEST_ID
    return int(text) if can_be else None


def entry_find(entry_id: str) -> dict[str, Any] | None:
    """Return the row of the entry with the id ``entry_id`` (text), ``None`` if there is none."""
    key = parse_entry_id(entry_id)
    if key is None:
        return None
    return AuditLog.objects.filter(pk=key).values(*DETAIL_COLUMNS).first()


def entries_of_user(user: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a user's entries, oldest first, in constant memory."""
    entries = AuditLog.objects.filter(user_id=user.pk).order_by("timestamp", "id")
    yield from read_in_batches(entries.values(*DETAIL_COLUMNS))


def oldest_failed_sign_in() -> datetime | None:
    """Return the time of the oldest failed sign-in recorded under an account's pseudonym.

    A key of ``MYOMETRICS["PSEUDONYM_KEYS"]`` that was replaced before this time is unused and can
    be removed. ``None`` means that there are no such entries: all keys but the first can be
    removed. Without a key that is in use, the erasure of a user misses failed sign-ins.
    """
    failed = AuditLog.objects.filter(action="login_failed", user=None, pseudonym="")
    oldest = failed.order_by("timestamp", "id").values_list("timestamp", flat=True)
    return oldest.first()


def activities_replay() -> Iterator[Event]:
    """Yield every entry as an activity, oldest first, in constant memory."""
    for entry in read_in_batches(AuditLog.objects.order_by("id")):
        yield activity_of(entry)


def counted_actions() -> list[str]:
    """Return at most 100 actions of sealed entries, ordered by name."""
    return _counted("a:")


def counted_resource_types() -> list[str]:
    """Return at most 100 resource types of sealed entries, ordered by name."""
    return _counted("t:")


def unsealed_count() -> int:
    """Return the number of unsealed leaves."""
    return Leaf.objects.filter(seal_number=None).count()


def evidence_state() -> str:
    """Return one line of text: the last verified seal, and the number of unsealed entries."""
    last = Verification.objects.order_by("-id").first()
    if last is None:
        verified = _("Never verified: run manage.py audit_verify.")
    else:
        verified = _(
            "Verified up to %(upto)s: %(entries)d entries, %(result)s (run of %(at)s)."
        ) % {
            "upto": _verified_upto(last),
            "entries": last.entries,
            "result": _verification_result(last),
            "at": f"{last.finished_at:%Y-%m-%d %H:%M} UTC",
        }
    return f"{verified} {_('%d entries wait for a seal.') % unsealed_count()}"


def _verified_upto(last: Verification) -> str:
    if last.sealed_at is None:
        return _("no seal")
    at = f"{last.sealed_at:%Y-%m-%d %H:%M} UTC"
    return _("seal %(number)s of %(at)s") % {"number": last.seal_number, "at": at}


def _verification_result(last: Verification) -> str:
    return _("%d PROBLEMS") % last.problems if last.problems else _("no problems")


def _counted(prefix: str) -> list[str]:
    scopes = EntryCount.objects.filter(
        scope__startswith=prefix, period=Period.ALL, count__gt=0
    ).exclude(scope__contains=SEPARATOR)
    names = scopes.order_by("scope").values_list("scope", flat=True)[:100]
    return [scope.removeprefix(prefix) for scope in names]


def _count_sql(selection: Selection, using: str) -> tuple[str, list[Any]]:
    """Return the exact count of the selection as an SQL expression, and its values."""
    where, values = selection.where(using)
    entries, leaves = AuditLog._meta.db_table, Leaf._meta.db_table
    if selection.scope is None:
        return f'(SELECT COUNT(*) FROM "{entries}" a WHERE TRUE{where})', values
    waiting = f'FROM "{leaves}" l WHERE l."seal_number" IS NULL AND l."erasure_id" IS NULL'
    if where:
        joined = f'FROM "{leaves}" l JOIN "{entries}" a ON a."id" = l."entry_id"'
        waiting = f'{joined} WHERE l."seal_number" IS NULL{where}'
    counted, counts = selection.counted(Period.DAY if selection.has_span else Period.ALL)
    stored = f'SELECT SUM("count") FROM "{EntryCount._meta.db_table}" WHERE {counted}'
    sql = f"COALESCE(({stored}), 0) + (SELECT COUNT(*) {waiting})"
    return sql, [*counts, *values]


def _slice_instances(entries: AuditLogQuerySet, part: PageSlice) -> list[Any]:
    order = ("-timestamp", "-id") if part.newest_first else ("timestamp", "id")
    chosen = entries.filter(part.condition()).order_by(*order)
    if part.skip:
        # Skipping only ids is an index-only scan.
        ids = list(chosen.values_list("pk", flat=True)[part.skip : part.skip + part.take])
        rows = list(chosen.filter(pk__in=ids)) if ids else []
    else:
        rows = list(chosen[: part.take])
    return rows if part.newest_first else rows[::-1]


def _slice_rows(
    selection: Selection, part: PageSlice, extra: str, extra_values: list[Any], using: str
) -> tuple[list[dict[str, Any]], Any]:
    direction = "DESC" if part.newest_first else "ASC"
    order = f'a."timestamp" {direction}, a."id" {direction}'
    where, values = selection.where(using)
    bounds, bound_values = part.where(using)
    where, values = where + bounds, [*values, *bound_values]
    limit = f" LIMIT {part.take}"
    if part.skip:
        table = AuditLog._meta.db_table
        skipped = f'SELECT a."id" FROM "{table}" a WHERE TRUE{where} ORDER BY {order}{limit}'
        where, limit = f' AND a."id" IN ({skipped} OFFSET {part.skip})', ""
    rows, counted = read_rows(where, [*extra_values, *values], order, limit, using, extra)
    return (rows if part.newest_first else rows[::-1]), counted
