"""The closing line shows the exact results."""

from __future__ import annotations

import subprocess
import sys

import pytest

from myometrics_testing.commands.jobs import Job, run_jobs
from myometrics_testing.commands.tally import Tally, read_tally

MIXED = """
import pytest

@pytest.fixture
def broken():
    raise RuntimeError

def test_good(): pass
def test_better(): pass
def test_bad(): assert 0
def test_error(broken): pass
@pytest.mark.skip
def test_skipped(): pass
"""


def run_pytest(folder, source):
    (folder / "test_it.py").write_text(source)
    report = folder / "report.xml"
    options = ["-p", "no:django", "-p", "no:myometrics_testing", f"--junitxml={report}"]
    command = [sys.executable, "-m", "pytest", "-q", *options, "test_it.py"]
    return report, subprocess.run(command, cwd=folder, check=False).returncode


def test_passed_failed_errors_and_skipped_are_counted(tmp_path):
    report, code = run_pytest(tmp_path, MIXED)
    assert read_tally(report, code) == Tally(passed=2, failed=2, skipped=1)


@pytest.mark.parametrize(
    "source", ["", "syntax error", "import os; os._exit(3)"], ids=["empty", "broken", "crash"]
)
def test_run_with_bad_exit_code_counts_as_failure(tmp_path, source):
    report, code = run_pytest(tmp_path, source)
    assert code != 0
    assert read_tally(report, code).failed == 1


def test_truncated_report_counts_as_failure(tmp_path):
    report = tmp_path / "report.xml"
    report.write_text("<testsuites><testsuite tests=")
    assert read_tally(report, 137) == Tally(failed=1)


def test_tallies_add_up():
    total = Tally(passed=1, failed=2, skipped=3) + Tally(passed=10)
    assert str(total) == "11 passed, 2 failed, 3 skipped"


def test_jobs_return_exit_code_and_output():
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    jobs = [
        Job(name=str(code), command=[sys.executable, "-c", script, str(code)]) for code in (0, 7)
    ]
    outcomes = {outcome.job.name: outcome for outcome in run_jobs(jobs, at_once=2)}
    assert {name: outcome.code for name, outcome in outcomes.items()} == {"0": 0, "7": 7}
    assert set(outcomes["7"].output.split()) == {"out", "err"}
