"""``dev build``: wheels and source archives."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from myometrics_testing.commands.jobs import Job, run_job
from myometrics_testing.commands.repository import ROOT, package_folders


def main(arguments: Sequence[str]) -> int:
    """Build the packages' wheels and source archives into dist/."""
    folders = package_folders()
    parser = argparse.ArgumentParser(prog="dev build", description=main.__doc__)
    parser.add_argument("packages", nargs="*", metavar="PACKAGE", help=f"of {', '.join(folders)}")
    wanted = parser.parse_args(arguments).packages or list(folders)
    if unknown := set(wanted) - set(folders):
        parser.error(f"no package {', '.join(sorted(unknown))}")
    return max(_build(str(folders[name])) for name in wanted)


def _build(folder: str) -> int:
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(ROOT / "dist")]
    return run_job(Job(name=folder, command=command, folder=folder), captured=False).code
