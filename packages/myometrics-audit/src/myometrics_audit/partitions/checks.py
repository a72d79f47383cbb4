"""System checks of partitions, under the ids of audit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import router

from myometrics_core.conf import register_check

from ..log.models import AuditLog
from .catalog import is_partitioned
from .conversion import FINISH, unfinished_conversion
from .gauges import partitions_ahead
from .triggers import missing_triggers

APP = "myometrics_audit"


def register_checks() -> None:
    """Register the checks."""
    register_check(check_partitions, checks.Tags.database, app=APP)


def check_partitions(
    databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[checks.CheckMessage]:
    """W080, W081, W082: partitions exist for new entries, and activity ids are unique."""
    using = router.db_for_write(AuditLog)
    if using not in (databases or ()):
        return
    if not is_partitioned(using):
        if plan := unfinished_conversion(using):
            yield checks.Warning(
                "The conversion of the audit log is unfinished: entries with an id of "
                f"{plan.end_id:,} or more are refused.",
                hint=FINISH,
                id=f"{APP}.W082",
            )
        return
    if not partitions_ahead():
        yield checks.Warning(
            "The audit log has no partition after the current one: soon no entry can be written.",
            hint="Run 'manage.py audit_partition' as the owner of the tables, and check that jobs "
            "run.",
            id=f"{APP}.W080",
        )
    if missing := missing_triggers(using):
        yield checks.Warning(
            f"Triggers that record activities are missing or disabled: {', '.join(missing)}.",
            hint="Run 'manage.py migrate' as the owner of the tables.",
            id=f"{APP}.W081",
        )
