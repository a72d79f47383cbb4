"""``dev tox``: other versions of Python, Django and the dependencies."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from myometrics_testing.commands.jobs import Job, run_job
from myometrics_testing.commands.tally import Tally, read_tally
from myometrics_testing.programs import find_program

OLDEST, NEWEST = "3.10", "3.13"
RUNNING = ("p", "run-parallel", "r", "run")
PRINT_VERSION = ("-c", "import sys; print('%d.%d' % sys.version_info[:2])")


def main(arguments: Sequence[str]) -> int:
    """Run tox: other Pythons and Djangos (options: tox's own; -m all for every environment)."""
    words = list(arguments) or ["run-parallel"]
    if words[0].startswith("-") and not {"-h", "--help", "--version"} & set(words):
        words.insert(0, "run-parallel")
    with tempfile.TemporaryDirectory(prefix="mm-reports-") as folder:
        code = _run_tox(words, folder)
        if words[0] in RUNNING:
            print(_sum(Path(folder), code))
    return code


def _run_tox(words: Sequence[str], reports: str) -> int:
    """Run tox with all of pyenv's Pythons on the PATH, since it searches only there."""
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([*map(str, pyenv_folders()), os.environ.get("PATH", os.defpath)]),
        "UV_PYTHON_DOWNLOADS": "never",
        "JUNIT_FOLDER": reports,
    }
    command = [sys.executable, "-m", "tox", *words]
    return run_job(Job(name="tox", command=command, environment=environment), captured=False).code


def pyenv_folders() -> list[Path]:
    """Return the ``bin`` folders of the Pythons that pyenv has installed."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return sorted(root.glob("versions/*/bin"))


def _sum(reports: Path, code: int) -> Tally:
    total = sum((read_tally(report, 0) for report in reports.glob("*.xml")), Tally())
    return total if total.failed or not code else total + Tally(failed=1)


def find_python(version: str) -> Path | None:
    """Return an interpreter of ``version``, e.g. ``"3.10"``, that runs: pyenv's or the PATH's."""
    folders = [*map(str, pyenv_folders()), os.environ.get("PATH", os.defpath)]
    found = find_program(
        f"python{version}", path=os.pathsep.join(folders), check=PRINT_VERSION, says=f"{version}\n"
    )
    return Path(found) if found else None


def missing_pythons() -> list[str]:
    """Return those of the oldest and the newest Python that are not installed."""
    return [version for version in (OLDEST, NEWEST) if find_python(version) is None]
