"""The benchmarks of a large audit log run with few rows, and their data are real evidence."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from myometrics_testing.commands.repository import ROOT

pytestmark = pytest.mark.any_database

VERIFY = ("django", "audit_verify", "--settings", "benchmarks.audit.site.settings")
SEED = ("benchmarks.audit.big_table.seed", "--rows", "20000", "--unsealed", "3000")


@pytest.fixture
def run(postgresql_server, tmp_path):
    """Run a module of the benchmarks on a server of its own; return its output."""
    environment = {
        **os.environ,
        "DATABASE_URL": postgresql_server.url,
        "BENCHMARK_FOLDER": str(tmp_path),
    }
    environment.pop("DJANGO_SETTINGS_MODULE", None)

    def start(*arguments: str) -> subprocess.Popen[str]:
        command: list[Any] = [sys.executable, "-u", "-m", *arguments]
        return subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )

    def run(*arguments: str) -> str:
        process = start(*arguments)
        output, _ = process.communicate()
        assert process.returncode == 0, output
        return output

    run.start = start
    return run


def test_seeded_log_is_sealed_and_verified(run):
    run(*SEED)

    output = run("benchmarks.audit.big_table.measure", "--sample", "1")

    assert "| checkpoint of 2 seals | 0 |" in output
    assert "| seal the newest entries | 3,616 |" in output
    assert "| audit_verify --since the checkpoint | 3,616 |" in output
    assert "Checked 20,000 entries, 20,000 leaves and 3 seals. No problems." in run(*VERIFY)


def test_killed_seeding_continues_after_the_last_slice(run):
    seed = (*SEED, "--slice", "8192")
    first = run.start(*seed)
    assert first.stdout.readline().startswith("8,192 rows")
    first.kill()
    first.communicate()

    output = run(*seed)

    assert "8,192 rows" not in output
    assert output.splitlines()[0].startswith(("16,384 rows", "20,000 rows"))
    assert "Checked 20,000 entries" in run(*VERIFY)
