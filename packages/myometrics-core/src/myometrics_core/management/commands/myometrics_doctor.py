"""``manage.py myometrics_doctor``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ...doctor.registry import Diagnosis, run_examinations


class Command(BaseCommand):
    """Examine the site: configuration, broken guarantees, and advice."""

    help = (
        "Examine this site: its configuration, broken guarantees, and advice. Changes nothing. Run "
        "it where the site runs, with its settings. States: ok; warning, fit for development only; "
        "problem, a guarantee is broken now; not configured. Exit code 0: no problems; "
        "1: problems; 2: wrong usage."
    )
    # The doctor must run on sites whose system checks fail.
    requires_system_checks: Any = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json",
            action="store_true",
            help="print one JSON object with `diagnoses` (`name`, `state`, `summary`, `advice`) "
            "and `problems`, the number of problems",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        states: Counter[str] = Counter()
        diagnoses = []
        for diagnosis in run_examinations():
            states[diagnosis.state] += 1
            diagnoses.append(asdict(diagnosis))
            if not options["json"]:
                self._show(diagnosis)
        if options["json"]:
            found = {"problems": states["problem"], "diagnoses": diagnoses}
            self.stdout.write(json.dumps(found, indent=2))
        else:
            self.stdout.write(
                f"{states['problem']} problems, {states['warning']} warnings, {states['ok']} ok, "
                f"{states['not configured']} not configured."
            )
        if states["problem"]:
            sys.exit(1)

    def _show(self, diagnosis: Diagnosis) -> None:
        styles = {
            "ok": self.style.SUCCESS,
            "warning": self.style.WARNING,
            "problem": self.style.ERROR,
        }
        style = styles.get(diagnosis.state, str)
        self.stdout.write(f"{style(diagnosis.state)}: {diagnosis.name}: {diagnosis.summary}")
        if diagnosis.advice:
            self.stdout.write(f"    {diagnosis.advice}")
