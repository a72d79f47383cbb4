"""Reversal of the app's migration: the log can stay partitioned only while it is empty."""

from __future__ import annotations

from django.db import connections
from django.db.migrations.exceptions import IrreversibleError

from ..log.guards import install_guards
from .catalog import TABLE, execute, is_partitioned, rows
from .conversion import unfinished_conversion
from .exchange import BOUNDS, exchange_empty_table
from .recorded_activities import drop_triggers


def remove_partitions(using: str) -> None:
    """Drop the triggers that use the app's tables, and the partitions of an empty log.

    Undoes an unfinished conversion. Raises ``IrreversibleError`` if the log is partitioned and has
    entries.
    """
    if connections[using].vendor != "postgresql":
        return
    if not is_partitioned(using):  # a conversion may have been started
        drop_triggers(using)
        if unfinished_conversion(using):
            execute(using, f'ALTER TABLE "{TABLE}" DROP CONSTRAINT {BOUNDS}')
        return
    # No entry may be written between the check and the drop.
    execute(using, f'LOCK TABLE "{TABLE}" IN ACCESS EXCLUSIVE MODE')
    if rows(using, f'SELECT 1 FROM "{TABLE}" LIMIT 1'):
        raise IrreversibleError(
            "The audit log is partitioned and has entries, whose activity ids are unique only with "
            "the tables of myometrics_audit.partitions. Keep the app installed."
        )
    exchange_empty_table(using)
    install_guards(using)
