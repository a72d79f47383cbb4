"""A site's process for imports: ``python import_process.py COMMAND …``, as with ``manage.py``.

The third batch of an import waits in its transaction, after its rows are written.
"""

import os
import sys

from myometrics_testing.site_processes import note, wait_for_go


def main():
    os.environ["DJANGO_SETTINGS_MODULE"] = "audit_test_settings"
    import django

    django.setup()
    from django.core.management import execute_from_command_line

    from myometrics_audit.importing import services

    write, batches = services.entries_import, []

    def write_and_wait(entries):
        write(entries)
        batches.append(len(entries))
        if len(batches) == 3:
            note("third batch")
            wait_for_go()

    services.entries_import = write_and_wait
    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
