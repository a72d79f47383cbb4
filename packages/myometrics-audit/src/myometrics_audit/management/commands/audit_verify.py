"""``manage.py audit_verify``."""

from __future__ import annotations

import json
import sys
from itertools import chain
from multiprocessing import get_all_start_methods
from pathlib import Path
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import (
    BaseCommand,
    CommandError,
    CommandParser,
    SystemCheckError,
)
from django.db.models import Q

from myometrics_core.management.command_line import Progress

from ...conf import audit_settings
from ...log.models import Leaf
from ...sealing.verification import LogVerifier, Problem, verification_record
from ...sealing.verification.seal_checks import KnownHead, read_anchors

CHECKPOINTS = "myometrics_audit.checkpoints"


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
            "--since",
            metavar="CHECKPOINT",
            help="read only what was sealed after this checkpoint (a file); the checkpoint itself "
            "and every later one must still fit the seals",
        )
        parser.add_argument(
            "--jobs", type=int, default=1, metavar="N", help="processes that verify entries (1)"
        )
        parser.add_argument(
            "--no-record",
            action="store_true",
            help="don't store the result for the admin site",
        )

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            return super().execute(*args, **options)
        except SystemCheckError as error:
            error.returncode = 2  # 1 would mean tampering
            raise

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = self._verify(options)
        except CommandError:
            raise
        except Exception as error:  # such as a lost connection
            name = type(error).__name__
            raise CommandError(
                f"The log could not be verified: {name}: {error}", returncode=2
            ) from error
        if found:
            sys.exit(1)

    def _verify(self, options: dict[str, Any]) -> int:
        """Verify the log and report; return the number of problems."""
        jobs, since = options["jobs"], self._since(options["since"])
        if jobs < 1 or (jobs > 1 and "fork" not in get_all_start_methods()):
            raise CommandError("--jobs must be at least 1; on Windows exactly 1.", returncode=2)
        heads, forged = self._heads(since)
        bar = Progress(sys.stderr, _leaves_to_verify(since), "leaves")
        verifier = LogVerifier(
            anchors=self._anchors(options["anchors"]),
            heads=heads,
            since=since,
            jobs=jobs,
            progress=bar.update,
        )
        for problem in chain(forged, verifier.problems()):
            bar.finish()
            self.stdout.write(json.dumps(problem.as_json()) if options["json"] else str(problem))
        verifier.found += len(forged)
        bar.finish()
        # The result of a part does not replace that of the whole log, unless it is worse.
        if not options["no_record"] and (since is None or verifier.found):
            verification_record(verifier)
        self._report(verifier, options["json"], since)
        return verifier.found

    def _since(self, path: str | None) -> KnownHead | None:
        if path is None:
            return None
        if not apps.is_installed(CHECKPOINTS):
            raise CommandError(f"--since needs the app {CHECKPOINTS}.", returncode=2)
        from ...checkpoints.known_heads import read_head  # noqa: PLC0415 (opt-in)

        try:
            return read_head(path)
        except (OSError, ValueError, ImproperlyConfigured) as error:
            raise CommandError(
                f"{path} can't be read as a checkpoint: {error}", returncode=2
            ) from None

    def _heads(self, since: KnownHead | None) -> tuple[list[KnownHead], list[Problem]]:
        if not apps.is_installed(CHECKPOINTS):
            return [], []
        from ...checkpoints.known_heads import stored_heads  # noqa: PLC0415 (opt-in)

        try:
            stored = list(stored_heads())
        except ImproperlyConfigured as error:
            raise CommandError(str(error), returncode=2) from None
        first = since.size if since else 0
        heads = [one for one in stored if isinstance(one, KnownHead) and one.size >= first]
        return heads, [one for one in stored if isinstance(one, Problem)]

    def _anchors(self, given: str | None) -> list[dict[str, Any]]:
        path = given or audit_settings.ANCHOR_FILE
        if not path or (given is None and not Path(path).exists()):
            return []
        try:
            return list(read_anchors(path))
        except (OSError, ValueError) as error:
            raise CommandError(f"The anchors can't be read: {error}", returncode=2) from error

    def _report(self, verifier: LogVerifier, as_json: bool, since: KnownHead | None) -> None:
        newest = verifier.seals.newest
        result: dict[str, Any] = {
            "entries": verifier.entries.entries,
            "leaves": verifier.leaves,
            "seals": verifier.seals.seals,
            "newest_seal": newest.number if newest else None,
            "problems": verifier.found,
        }
        if since:
            result["since"] = since.size
        if as_json:
            self.stdout.write(json.dumps(result))
        else:
            verdict = f"{verifier.found:,} PROBLEMS." if verifier.found else "No problems."
            part = f" after seal {since.size:,}" if since else ""
            self.stdout.write(
                f"Checked {result['entries']:,} entries, {result['leaves']:,} leaves and "
                f"{result['seals']:,} seals{part}. {verdict}"
            )


def _leaves_to_verify(since: KnownHead | None) -> int:
    leaves = Leaf.objects.all()
    if since:
        leaves = leaves.filter(Q(seal_number__gt=since.size) | Q(seal_number=None))
    return leaves.count()
