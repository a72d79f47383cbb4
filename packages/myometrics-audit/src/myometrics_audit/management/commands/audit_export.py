"""``manage.py audit_export``."""

from __future__ import annotations

import gzip
import sqlite3
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser

from myometrics_core.management.command_line import Progress

from ...listing.pages import entries_count
from ...listing.selection import Selection, entries_select
from ...listing.serializers import EntryQuerySerializer
from ...sealing.export import export_problems, fhir_lines, proof_lines
from ...sealing.verification.problems import one_line

CHECKPOINTS = "myometrics_audit.checkpoints"


class Command(BaseCommand):
    """Export the log."""

    help = (
        "Write the audit log as JSON Lines: with Merkle proofs (the default), or as FHIR R4 "
        "AuditEvents (--format fhir). --check reads such a file with proofs and checks it with "
        "the keys of the settings, without the database. Exit code 0; 1 when --check found "
        "problems; 2 for wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=["proofs", "fhir"], default="proofs")
        parser.add_argument("--output", metavar="FILE", help="default: standard output")
        parser.add_argument(
            "--folder",
            metavar="FOLDER",
            help="write a new folder that outsiders can verify with the public keys: entries up to "
            "the newest checkpoint, checkpoints and proofs",
        )
        parser.add_argument(
            "--check",
            metavar="PATH",
            help="check a file, such as an archive of audit_purge (.gz), or a folder instead of "
            "writing one",
        )
        for name, field in EntryQuerySerializer().fields.items():
            parser.add_argument(f"--{_option(name)}", metavar="VALUE", help=str(field.help_text))
        parser.add_argument(
            "--observer", default="myometrics", help="this system's name in AuditEvents"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["check"]:
            self._check(options["check"])
            return
        selection = _selection(options)
        entries = entries_select(selection)
        if options["folder"]:
            self._write_folder(options["folder"], selection)
            return
        lines = (
            fhir_lines(entries, observer=options["observer"])
            if options["format"] == "fhir"
            else proof_lines(entries)
        )
        if options["output"]:
            self._write_file(options["output"], lines, entries_count(selection))
        else:
            for line in lines:
                self.stdout.write(line)

    def _write_file(self, path: str, lines: Iterator[str], total: int) -> None:
        bar = Progress(sys.stderr, total, "lines")
        written = 0
        try:
            with Path(path).open("w", encoding="utf-8") as file:
                for written, line in enumerate(lines, start=1):
                    file.write(line + "\n")
                    bar.update(written)
        except OSError as error:
            raise CommandError(f"{path} can't be written: {error}", returncode=2) from error
        bar.finish()
        self.stdout.write(f"Wrote {written:,} lines to {path}.")

    def _write_folder(self, path: str, selection: Selection) -> None:
        if not apps.is_installed(CHECKPOINTS):
            raise CommandError(f"--folder needs the app {CHECKPOINTS}.", returncode=2)
        from ...checkpoints.export_folder import (  # noqa: PLC0415 (opt-in)
            NothingPublished,
            write_folder,
        )

        entries = None if selection == Selection() else entries_select(selection)
        bar = Progress(sys.stderr, entries_count(selection), "lines")
        try:
            written = write_folder(Path(path), entries, bar.update)
        except (NothingPublished, OSError, ValueError, ImproperlyConfigured) as error:
            raise CommandError(f"{path} can't be written: {error}", returncode=2) from error
        bar.finish()
        self.stdout.write(f"Wrote {written:,} lines to {path}/log.jsonl.")

    def _problems(self, path: Path) -> Iterator[str]:
        if path.is_dir() and apps.is_installed(CHECKPOINTS):
            from ...checkpoints.export_folder import folder_problems  # noqa: PLC0415 (opt-in)

            yield from folder_problems(path)
        else:
            opener: Any = gzip.open if path.suffix == ".gz" else open
            with opener(path, "rt", encoding="utf-8") as lines:
                yield from export_problems(lines)

    def _check(self, path: str) -> None:
        found, scope = 0, ""
        try:
            for problem in self._problems(Path(path)):
                found += 1
                self.stdout.write(one_line(problem))
            scope = "" if found else _scope(Path(path))
        except (OSError, EOFError, ValueError, zlib.error, ImproperlyConfigured) as error:
            raise CommandError(
                f"{path} is not an export with proofs: {error}", returncode=2
            ) from error
        except sqlite3.Error as error:  # such as a full disk
            raise CommandError(f"{path} can't be checked: {error}", returncode=2) from error
        self.stdout.write(f"{found:,} PROBLEMS." if found else f"No problems.{scope}")
        if found:
            sys.exit(1)


def _scope(path: Path) -> str:
    """Return what to say about a folder without problems; a file never proves to be complete."""
    if not path.is_dir():
        return ""
    from ...checkpoints.export_folder import is_complete  # noqa: PLC0415 (opt-in)

    if is_complete(path):
        return " Complete up to its checkpoint."
    return " NOT complete: entries can be left out."


def _selection(options: Mapping[str, Any]) -> Selection:
    filters = EntryQuerySerializer(data=options)
    if not filters.is_valid():
        problems = [
            f"--{_option(name)}: {' '.join(map(str, found))}"
            for name, found in filters.errors.items()
        ]
        raise CommandError("\n".join(problems), returncode=2)
    return Selection(**filters.validated_data)


def _option(name: str) -> str:
    return name.replace("_", "-")
