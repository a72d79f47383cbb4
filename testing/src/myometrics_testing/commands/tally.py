"""Sum up pytest's results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Numbers of tests; errors in fixtures count as failures."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            passed=self.passed + other.passed,
            failed=self.failed + other.failed,
            skipped=self.skipped + other.skipped,
        )

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def read_tally(report: Path, code: int) -> Tally:
    """Return the numbers of a JUnit report, given pytest's exit code.

    A run that failed without a failing test (a crash, no tests, no report) counts as one failure,
    so that the sum agrees with the exit code.
    """
    tally = _parse(report) if report.exists() else Tally()
    if code and not tally.failed:
        return tally + Tally(failed=1)
    return tally


def _parse(report: Path) -> Tally:
    try:
        suites = list(ElementTree.parse(report).iter("testsuite"))
    except ElementTree.ParseError:
        return Tally()
    total, failures, errors, skipped = (
        sum(int(suite.get(name, 0)) for suite in suites)
        for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    return Tally(passed=max(total - failed - skipped, 0), failed=failed, skipped=skipped)
