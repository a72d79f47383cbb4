"""``manage.py audit_import``."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from myometrics_core.management.command_line import Progress

from ...packages import PACKAGES
from ...rows import DumpFile, ModelTable, RowSource, UnreadableDump
from ...services import AlreadyImported, ImportedConcurrently, LogImport

MAX_SYSTEM_LENGTH = 50


class Command(BaseCommand):
    """Import the log of another package."""

    help = (
        "Import the history that another package has kept: from a file of 'manage.py dumpdata "
        "--natural-foreign --format jsonl' (or json; also .gz, .bz2, .xz), or from a model of this "
        "site; or, with --from archive, a file that audit_purge or audit_export has written: "
        "check it with 'audit_export --check' before. "
        "Entries keep their time, and have the origin 'import'. A stopped import continues "
        "when it is started again, and no row is imported twice. Secrets are masked. "
        "Examples: audit_import --from auditlog auditlog.jsonl; "
        "audit_import --from simple_history clinic.HistoricalPatient --dry-run. "
        "Exit code 0; 1: rows were refused (a line for each); 2: the import can't be done."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--from",
            required=True,
            choices=sorted(PACKAGES),
            dest="package",
            help="the package that has kept the history; archive: a file of audit_purge",
        )
        parser.add_argument(
            "place", metavar="FILE|MODEL", help="dump, or app.Model or table of this site"
        )
        parser.add_argument(
            "--system",
            default="",
            metavar="NAME",
            help="the system that the log is of, if several are imported (default: the package)",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only report what would be imported"
        )
        parser.add_argument("--json", action="store_true", help="print the result as one JSON line")

    def handle(self, *args: Any, **options: Any) -> None:
        system = options["system"]
        if len(system) > MAX_SYSTEM_LENGTH or not (system.isprintable() and system.isascii()):
            raise CommandError("--system must be at most 50 printable characters.", returncode=2)
        source = _find(options["place"])
        log = LogImport(options["package"], source, system=system)
        try:
            log.prepare()
            if not source.has_log:
                raise UnreadableDump(f"it has no rows of {options['package']}")
            counts = self._import(log, options)
        except UnreadableDump as error:
            raise CommandError(f"{options['place']}: {error}.", returncode=2) from None
        except sqlite3.Error as error:  # of the temporary file, such as a full disk
            raise CommandError(f"{options['place']}: {error}.", returncode=2) from error
        except (AlreadyImported, ImportedConcurrently) as error:
            raise CommandError(str(error), returncode=2) from None
        finally:
            source.close()
        self._report(counts, options)
        if counts["refused"]:
            sys.exit(1)

    def _import(self, log: LogImport, options: Any) -> Counter[str]:
        counts = Counter({"rows": 0, "imported": 0, "known": 0, "refused": 0})
        bar = Progress(sys.stderr, log.source.total, "rows")
        for batch in log.dry_run() if options["dry_run"] else log.run():
            for problem in batch.problems:
                bar.finish()
                self.stderr.write(problem)
            counts.update(
                rows=batch.rows,
                imported=batch.imported,
                known=batch.known,
                refused=batch.refused,
            )
            bar.update(counts["rows"])
        bar.finish()
        return counts

    def _report(self, counts: Counter[str], options: Any) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({**counts, "dry_run": options["dry_run"]}))
            return
        done = "Would import" if options["dry_run"] else "Imported"
        self.stdout.write(
            f"{done} {counts['imported']:,} of {counts['rows']:,} rows; "
            f"{counts['known']:,} were imported before, {counts['refused']:,} refused."
        )


def _find(place: str) -> RowSource:
    if Path(place).is_file():
        return DumpFile(Path(place))
    table = ModelTable.find(place)
    if table is None:
        raise CommandError(f"{place} is neither a file nor a model or table here.", returncode=2)
    return table
