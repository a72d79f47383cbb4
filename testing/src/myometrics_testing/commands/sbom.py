"""``dev sbom``: a bill of materials, and a check of its licences."""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from myometrics_testing.commands.jobs import Job, run_job
from myometrics_testing.commands.lock import SITE, find_uv

ALLOWED = re.compile(
    r"(0BSD|Apache|BSD|ISC|LGPL|MIT|MPL|Mozilla Public|PSF|Python Software Foundation|Unlicense)",
)
"""Permissive licences, and those whose only condition is to publish changes to the library."""
UNDECLARED = {"protobuf": "BSD-3-Clause", "uritemplate": "BSD-3-Clause OR Apache-2.0"}
"""Licences of packages that declare none in their metadata, from their licence files."""


def main(arguments: Sequence[str]) -> int:
    """Write a CycloneDX bill of materials, and refuse licences that are not permissive."""
    parser = argparse.ArgumentParser(prog="dev sbom", description=main.__doc__)
    parser.add_argument("output", type=Path, metavar="FILE.cdx.json")
    parser.add_argument(
        "wheels",
        nargs="*",
        type=Path,
        metavar="WHEEL",
        help="with what they need, in the versions of the lock file (default: the whole lock file)",
    )
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="mm-sbom-") as folder:
        for command in _commands(Path(folder), options.wheels, options.output):
            if run_job(Job(name="sbom", command=command), captured=False).code:
                return 1
    components = json.loads(options.output.read_text())["components"]
    problems = sorted(find_problems(components))
    print(*problems, f"{len(components)} components in {options.output}.", sep="\n")
    return int(bool(problems))


def find_problems(components: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Return a sentence about each component whose licence is unknown or not permissive."""
    for component in components:
        names = list(_licences(component)) or [UNDECLARED.get(component["name"], "")]
        if not any(map(_is_allowed, names)):
            named = " and ".join(filter(None, names)) or "no licence"
            yield f"{component['name']} {component['version']} has {named}."


def _is_allowed(expression: str) -> bool:
    """Return whether an alternative of an SPDX expression has only licences of ``ALLOWED``."""
    return any(
        all(ALLOWED.search(part) for part in alternative.split(" AND "))
        for alternative in expression.split(" OR ")
    )


def _licences(component: dict[str, Any]) -> Iterator[str]:
    for found in component.get("licenses", []):
        licence = found.get("license", {})
        yield found.get("expression") or licence.get("id") or licence.get("name", "")


def _commands(folder: Path, wheels: Sequence[Path], output: Path) -> Iterator[list[str]]:
    python = str(folder / "bin" / "python")
    install = [find_uv(), "pip", "install", "--quiet", "--python", python]
    yield [sys.executable, "-m", "venv", "--without-pip", str(folder)]
    if wheels:
        yield [*install, "--constraints", str(SITE), *map(str, wheels)]
    else:
        yield [*install, "--no-deps", "--require-hashes", "--requirements", str(SITE)]
    made = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    yield [*made, "--output-file", str(output), python]
