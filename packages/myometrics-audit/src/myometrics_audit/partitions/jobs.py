"""The job that creates partitions ahead and closes full ones."""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import ProgrammingError, router

from myometrics_core.jobs import Job, JobFailed, JobKind, every

from ..log.models import AuditLog
from .catalog import is_partitioned, is_privilege_missing
from .maintenance import maintain_partitions

logger = logging.getLogger("myometrics.audit.partitions")

PARTITIONS_JOB = "myometrics_audit.partitions"


class MaintainPartitions(JobKind):
    """Runs every hour; has no effect before ``manage.py audit_partition`` has converted the log."""

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
