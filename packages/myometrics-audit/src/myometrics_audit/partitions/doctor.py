"""Examination of partitions for ``manage.py myometrics_doctor``."""

from __future__ import annotations

from collections.abc import Iterator

from django.db import router

from myometrics_core.doctor import Diagnosis, register_examination

from ..log.models import AuditLog
from .catalog import is_partitioned
from .conversion import FINISH, unfinished_conversion
from .gauges import ids_ahead, partition_count, partitions_ahead
from .triggers import missing_triggers


def register_examinations() -> None:
    """Register the examination with core's doctor."""
    register_examination("audit partitions", examine_partitions, needs_database=True)


def examine_partitions() -> Iterator[Diagnosis]:
    """Check that partitions exist for new entries, and that the triggers on them do."""
    name, using = "audit partitions", router.db_for_write(AuditLog)
    if unfinished_conversion(using):
        yield Diagnosis(
            name,
            "problem",
            f"The conversion is unfinished; {ids_ahead():,.0f} entries can be written until then.",
            FINISH,
        )
    elif not is_partitioned(using):
        yield Diagnosis(
            name,
            "not configured",
            "The audit log is one table.",
            "On PostgreSQL, 'manage.py audit_partition' partitions it.",
        )
    elif missing := missing_triggers(using):
        yield Diagnosis(
            name,
            "problem",
            f"{len(missing)} triggers are missing or disabled: {', '.join(missing)}.",
            "Run 'manage.py migrate' as the owner of the tables.",
        )
    elif not partitions_ahead():
        yield Diagnosis(
            name,
            "problem",
            f"There is no partition after the current one; {ids_ahead():,.0f} ids are left.",
            "Run 'manage.py audit_partition' as the owner of the tables.",
        )
    else:
        yield Diagnosis(
            name,
            "ok",
            f"{partition_count():,.0f} partitions; {ids_ahead():,.0f} ids are left in them.",
        )
