"""``dev docs``: the documentation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from myometrics_testing.commands.jobs import Job, run_job


def main(arguments: Sequence[str]) -> int:
    """Build the documentation into site/, or serve it while you write."""
    parser = argparse.ArgumentParser(prog="dev docs", description=main.__doc__)
    parser.add_argument("action", nargs="?", choices=["build", "serve"], default="build")
    action = parser.parse_args(arguments).action
    return run_job(docs_job(action, "--strict"), captured=False).code


def docs_job(*arguments: str) -> Job:
    """A run of mkdocs, without its makers' advertising on the terminal."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", *arguments]
    return Job(name="docs", command=command, environment=environment)
