"""``dev docs``: the documentation."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from myometrics_testing.commands.images import write_images
from myometrics_testing.commands.jobs import Job, example_job, run_job


def main(arguments: Sequence[str]) -> int:
    """Build the documentation into site/, serve it, or rewrite its tables or its images."""
    parser = argparse.ArgumentParser(prog="dev docs", description=main.__doc__)
    parser.add_argument(
        "action", nargs="?", choices=["build", "serve", "write", "images"], default="build"
    )
    action = parser.parse_args(arguments).action
    if action == "images":
        return write_images()
    job = documents_job() if action == "write" else docs_job(action, "--strict")
    return run_job(job, captured=False).code


def docs_job(*arguments: str) -> Job:
    """Return a job for mkdocs, without the advertising it prints."""
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", *arguments]
    return Job(name="docs", command=command, environment=environment)


def documents_job(*arguments: str) -> Job:
    """Return a job that writes the generated parts; ``--check``: fail if they are stale."""
    module = "myometrics_testing.commands.documents"
    return example_job("docs from code", sys.executable, "-m", module, *arguments)
