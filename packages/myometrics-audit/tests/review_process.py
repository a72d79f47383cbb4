"""A site's process for the review: ``python review_process.py COMMAND …``, as with ``manage.py``.

``fill`` writes and seals entries. The third batch of an examination waits in its transaction, after
its findings are written.
"""

import os
import sys
from datetime import datetime, timezone

from myometrics_testing.site_processes import note, wait_for_go

ENTRIES = 240


def all_subjects(data_subjects):
    """Return all data subjects, as if each was a VIP."""
    return data_subjects


def fill():
    from django.contrib.auth import get_user_model

    from myometrics_audit.models import AuditLog
    from myometrics_audit.sealing import seal_pending

    user = get_user_model().objects.create_user(email="tina@clinic.example")
    AuditLog.objects.bulk_create(
        AuditLog(
            user=user,
            action="record_viewed",
            resource_type="record",
            resource_id=str(number),
            data_subject=f"p{number % 120}",
            timestamp=datetime(2026, 11, 2, 9, tzinfo=timezone.utc),
        )
        for number in range(ENTRIES)
    )
    list(seal_pending())


def main():
    os.environ["DJANGO_SETTINGS_MODULE"] = "audit_test_settings"
    import django
    from django.conf import settings

    settings.MYOMETRICS_AUDIT["REVIEW_VIP"] = all_subjects
    django.setup()
    if sys.argv[1:] == ["fill"]:
        fill()
        return
    from django.core.management import execute_from_command_line

    from myometrics_audit.review import scanning

    write, batches = scanning.findings_open, []

    def write_and_wait(hits, **options):
        opened = write(hits, **options)
        batches.append(len(opened))
        if len(batches) == 3:
            note("third batch")
            wait_for_go()
        return opened

    scanning.findings_open = write_and_wait
    scanning.BATCH_SIZE = 50
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
