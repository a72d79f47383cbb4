"""``manage.py audit_verify``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from myometrics_core.management.command_line import Progress

from ...conf import audit_settings
from ...log.models import Leaf
from ...sealing.verification import LogVerifier, verification_record
from ...sealing.verification.seal_checks import read_anchors


class Command(BaseCommand):
    """Verify every entry, leaf, seal and erasure."""

    help = (
        "Verify the whole audit log against its evidence, and report each row that was edited, "
        "removed, forged, restored or reordered. Exit code 0: no problems; 1: problems were "
        "found; 2: the log could not be verified."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json", action="store_true", help="print problems and result as JSON lines"
        )
        parser.add_argument(
            "--anchors",
            metavar="FILE",
            help="file of published seals that must still exist (default: the setting ANCHOR_FILE)",
        )
        parser.add_argument(
            "--no-record",
            action="store_true",
            help="don't store the result for the admin site",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        bar = Progress(sys.stderr, Leaf.objects.count(), "leaves")
        verifier = LogVerifier(anchors=self._anchors(options["anchors"]), progress=bar.update)
        for problem in verifier.problems():
            bar.finish()
            self.stdout.write(json.dumps(problem.as_json()) if options["json"] else str(problem))
        bar.finish()
        if not options["no_record"]:
            verification_record(verifier)
        self._report(verifier, options["json"])
        if verifier.found:
            sys.exit(1)

    def _anchors(self, given: str | None) -> list[dict[str, Any]]:
        path = given or audit_settings.ANCHOR_FILE
        if not path or (given is None and not Path(path).exists()):
            return []
        try:
            return list(read_anchors(path))
        except (OSError, ValueError) as error:
            raise CommandError(f"The anchors can't be read: {error}", returncode=2) from error

    def _report(self, verifier: LogVerifier, as_json: bool) -> None:
        newest = verifier.seals.newest
        result = {
            "entries": verifier.entries.entries,
            "leaves": verifier.leaves,
            "seals": verifier.seals.seals,
            "newest_seal": newest.number if newest else None,
            "problems": verifier.found,
        }
        if as_json:
            self.stdout.write(json.dumps(result))
        else:
            verdict = f"{verifier.found:,} PROBLEMS." if verifier.found else "No problems."
            self.stdout.write(
                f"Checked {result['entries']:,} entries, {result['leaves']:,} leaves and "
                f"{result['seals']:,} seals. {verdict}"
            )
