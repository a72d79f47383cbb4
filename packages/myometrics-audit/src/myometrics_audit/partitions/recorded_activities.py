"""The activity ids of all entries: triggers that keep their table, and its first filling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.db import connections

from myometrics_core.db import fetch_rows, read_committed

from ..log.models import AuditLog
from ..sealing.locks import evidence_lock
from .catalog import TABLE, execute, grants, rows
from .functions import create_function
from .models import Conversion, Partition, RecordedActivity

FUNCTION: Final = "myometrics_audit_activity"
TRIGGERS: Final = {
    f"{FUNCTION}_insert": "AFTER INSERT ON {table} FOR EACH ROW WHEN (NEW.activity_id IS NOT NULL)",
    f"{FUNCTION}_delete": "AFTER DELETE ON {table} FOR EACH ROW WHEN (OLD.activity_id IS NOT NULL)",
}
BATCH_SIZE: Final = 20_000
"""Ids in one transaction, for which sealing and erasures wait."""

_RECORDED = f'"{RecordedActivity._meta.db_table}"'
# loaddata may have loaded the activity before its entry. A job deletes the activities of a dropped
# partition: until then their rows are replaced here.
_RULES = f""" DECLARE
    known bigint;
BEGIN
    IF TG_OP = 'DELETE' THEN
        DELETE FROM {_RECORDED} WHERE activity_id = OLD.activity_id AND entry_id = OLD.id;
        RETURN NULL;
    END IF;
    SELECT entry_id INTO known FROM {_RECORDED} WHERE activity_id = NEW.activity_id;
    IF known = NEW.id THEN
        RETURN NULL;
    ELSIF known IS NOT NULL AND NOT EXISTS (SELECT 1 FROM "{TABLE}" WHERE id = known) THEN
        DELETE FROM {_RECORDED} WHERE activity_id = NEW.activity_id AND entry_id = known;
    END IF;
    INSERT INTO {_RECORDED} (activity_id, entry_id) VALUES (NEW.activity_id, NEW.id);
    RETURN NULL;
END """


def find_recorded(activity_ids: Sequence[str], using: str) -> Mapping[str, int] | None:
    """Map activity ids to the ids of their entries; ``None`` if the log is not partitioned."""
    if connections[using].vendor != "postgresql":
        return None
    found = fetch_rows(
        f"SELECT activity_id, entry_id FROM {_RECORDED} WHERE activity_id = ANY(%s) "
        "UNION ALL SELECT NULL, NULL "
        f'WHERE NOT EXISTS (SELECT 1 FROM "{Partition._meta.db_table}")',
        [list(activity_ids)],
        using=using,
    )
    known: dict[Any, Any] = dict(found)  # type: ignore[arg-type]
    return None if None in known else known


def create_triggers(using: str) -> None:
    """Create the triggers on the table of entries, in the caller's transaction."""
    create_function(FUNCTION, _RULES, using)
    execute(
        using,
        *(
            f"CREATE TRIGGER {name} {event.format(table=_quoted(TABLE))} "
            f"EXECUTE FUNCTION {FUNCTION}()"
            for name, event in TRIGGERS.items()
        ),
    )


def drop_triggers(using: str) -> None:
    """Drop the triggers from the table of entries."""
    execute(using, *(f'DROP TRIGGER IF EXISTS {name} ON "{TABLE}"' for name in TRIGGERS))


def start_recording(using: str) -> None:
    """Create the triggers unless they exist, in the caller's transaction.

    A table that was filled without them is emptied.
    """
    if has_triggers(using):
        return
    # Waits for transactions that wrote without the trigger.
    execute(using, f'LOCK TABLE "{TABLE}" IN SHARE ROW EXCLUSIVE MODE', f"DELETE FROM {_RECORDED}")
    restart_recording(using)
    source, partitions = _quoted(TABLE), _quoted(Partition._meta.db_table)
    execute(using, *grants(source, _RECORDED, using, with_columns=False))
    # Only the owner changes partitions; with other times, lists would leave out entries.
    execute(using, *grants(source, partitions, using, with_columns=False, only="SELECT"))
    drop_triggers(using)  # disabled ones
    create_triggers(using)


def has_triggers(using: str) -> bool:
    """Return whether the table of entries has the triggers."""
    sql = (
        "SELECT count(*) FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = ANY(%s) "
        "AND tgenabled IN ('O', 'A')"
    )
    return bool(rows(using, sql, [_quoted(TABLE), list(TRIGGERS)])[0][0] == len(TRIGGERS))


def record_existing(using: str, progress: Callable[[int, int], object]) -> None:
    """Record the activities of entries that were written before the triggers existed.

    Continues where an earlier run stopped. ``progress`` is called with the ids done and to do.
    """
    entries = AuditLog._base_manager.using(using).order_by()
    last = entries.order_by("-pk").values_list("pk", flat=True).first()
    if last is None:
        return
    state = Conversion.objects.using(using).first() or restart_recording(using)
    start = state.recorded_up_to
    while state.recorded_up_to < last:
        # An erasure could otherwise delete an entry while its activity is copied.
        with read_committed(using), evidence_lock(using):
            _record_batch(state.recorded_up_to, using)
            state.recorded_up_to += BATCH_SIZE
            state.save(using=using)
        progress(min(state.recorded_up_to, last) - start, last - start)


def restart_recording(using: str) -> Conversion:
    """Let :func:`record_existing` begin with the first entry."""
    Conversion.objects.using(using).all().delete()
    first = rows(using, f'SELECT coalesce(min(id), 1) FROM "{TABLE}"')[0][0]
    return Conversion.objects.using(using).create(recorded_up_to=first - 1)


def _record_batch(after: int, using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_RECORDED} (activity_id, entry_id) "
            f'SELECT activity_id, id FROM "{TABLE}" '
            "WHERE id > %s AND id <= %s AND activity_id IS NOT NULL ON CONFLICT DO NOTHING",
            [after, after + BATCH_SIZE],
        )


def _quoted(table: str) -> str:
    return f'"{table}"'
