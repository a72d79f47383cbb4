"""The job that creates partitions ahead and closes full ones."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import ProgrammingError, router

from myometrics_core.jobs import Job, JobFailed, JobKind, every

from ..conf import audit_settings
from ..log.models import AuditLog, Leaf
from .catalog import is_partitioned, is_privilege_missing
from .maintenance import maintain_partitions
from .models import Partition

logger = logging.getLogger("myometrics.audit.partitions")

PARTITIONS_JOB = "myometrics_audit.partitions"


def are_partitions_missing(using: str) -> bool:
    """Return whether entries have reached a partition that was ahead.

    Reads only tables that every role with access to the log may read.
    """
    first_ids = list(Partition.objects.using(using).values_list("first_id", flat=True))
    if not first_ids:
        return False
    leaves = Leaf.objects.using(using).order_by("-entry_id")
    newest = leaves.values_list("entry_id", flat=True).first() or 0
    return sum(first_id > newest for first_id in first_ids) < audit_settings.PARTITIONS_AHEAD


class MaintainPartitions(JobKind):
    """Runs every hour, and after a seal if entries have reached a partition that was ahead.

    Has no effect before ``manage.py audit_partition`` has converted the log.
    """

    name = PARTITIONS_JOB
    schedule = every(timedelta(hours=1))

    def run(self, job: Job) -> None:
        using = router.db_for_write(AuditLog)
        if not is_partitioned(using):
            return
        try:
            maintain_partitions(using)
        except ProgrammingError as error:
            if not is_privilege_missing(error):
                raise
            logger.error(
                "This database role may not create partitions: run 'manage.py audit_partition' "
                "regularly as the owner of the tables (%s)",
                error,
            )
            raise JobFailed("insufficient privilege") from error
