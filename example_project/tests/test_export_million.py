"""An export of a million audit entries starts quickly and needs little memory.

Prints the cost relative to a bare COPY, which depends on other load of the machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.alone

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "export_million.py"
ROWS = 1_000_000


@pytest.fixture(scope="module")
def measured():
    """Measurements by ``copy``, ``csv`` and ``json``, each made in a child process."""
    environment = {**os.environ, "EMAIL_BACKEND": ""}
    environment.pop("DATABASE_URL", None)  # a PostgreSQL of its own, whatever the tests run on
    output = subprocess.run(
        [sys.executable, str(BENCHMARK), "--rows", str(ROWS), "--json"],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    return json.loads(output)


@pytest.mark.parametrize("export_format", ["csv", "json"])
def test_export_of_million_entries_streams_in_little_memory(measured, export_format, capsys):
    found, bare = measured[export_format], measured["copy"]
    ratio, share = found["cpu"] / bare["cpu"], found["first_byte_cpu"] / found["cpu"]

    with capsys.disabled():
        print(
            f"\n{ROWS} entries as {export_format}: {found['size']:.0f} MB, first byte after "
            f"{found['first_byte']:.3f} s and {share:.1%} of the CPU, "
            f"memory + {found['growth']:.1f} MB, CPU {ratio:.2f} × COPY"
        )
    assert found["size"] > 300
    # Before a twentieth of the work is done, whatever the machine's speed.
    assert share < 0.05
    assert found["growth"] <= 30
