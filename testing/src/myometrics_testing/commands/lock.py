"""``dev lock``: the dependencies of the image and of servers, by version and hash."""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from myometrics_testing.commands.jobs import Job, run_job
from myometrics_testing.commands.repository import EXAMPLE, PREFIX, ROOT, package_folders

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OLDEST, PYTHONS = "3.10", ("3.10", "3.11", "3.12", "3.13")
SITE, BUILD = EXAMPLE / "requirements.txt", EXAMPLE / "requirements-build.txt"
HEADER = "# Made by `python3 dev lock` from the dependencies that the packages declare.\n"
ENTRY = re.compile(
    r"^(?P<requirement>[A-Za-z0-9][^\\\n]*?)(?P<hashes>(?: \\\n.*--hash=.*)*)$", re.M
)


def main(arguments: Sequence[str]) -> int:
    """Write the lock files that the image and a server install from (needs the package index)."""
    parser = argparse.ArgumentParser(prog="dev lock", description=main.__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only compare; asks no index")
    what.add_argument("--upgrade", action="store_true", help="take the newest versions")
    options = parser.parse_args(arguments)
    if options.check:
        problems = [line for path in locks() for line in find_problems(path, locks()[path])]
        print(*problems, sep="\n", end="\n" if problems else "")
        return int(bool(problems))
    return max(_write(path, needed, upgrade=options.upgrade) for path, needed in locks().items())


def locks() -> dict[Path, list[Requirement]]:
    """Return each lock file with the requirements that it must satisfy."""
    return {SITE: declared(), BUILD: [Requirement(_toml(EXAMPLE)["build-system"]["requires"][0])]}


def declared() -> list[Requirement]:
    """Return the requirements of the example with all extras, and of our packages; without ours.

    Includes those of our packages' extras that the example names.
    """
    asked: set[str] = set()
    for folder in [*package_folders().values(), EXAMPLE]:
        project = _toml(folder)["project"]
        asked |= set(project["dependencies"])
    for extra in _toml(EXAMPLE)["project"]["optional-dependencies"].values():
        asked |= set(extra)
    for ours in [Requirement(text) for text in asked if text.startswith(PREFIX)]:
        folder = package_folders()[ours.name.removeprefix(PREFIX)]
        for name in ours.extras:
            asked |= set(_toml(folder)["project"]["optional-dependencies"][name])
    return [Requirement(text) for text in sorted(asked) if not text.startswith(PREFIX)]


def find_problems(path: Path, needed: Sequence[Requirement]) -> Iterator[str]:
    """Return why ``path`` can't be installed from: missing requirements or hashes."""
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    text = path.read_text() if path.exists() else ""
    if "://" in text or re.search(r"^-", text, re.M):
        yield f"{name} names a place to install from; it may name versions and hashes only."
    locked_here = entries(text)
    for locked, hashes in locked_here:
        if "--hash=sha256:" not in hashes:
            yield f"{name}: {locked.name} has no hash."
    for python in PYTHONS:
        for one in needed:
            if not _is_satisfied(one, [locked for locked, _ in locked_here], python):
                yield f"{name}: nothing for {one} on Python {python}. Run python3 dev lock."


def entries(text: str) -> list[tuple[Requirement, str]]:
    """Return each requirement of a lock file's ``text``, with its hashes unchanged."""
    return [
        (Requirement(found["requirement"].strip()), found["hashes"])
        for found in ENTRY.finditer(text)
    ]


def _is_satisfied(needed: Requirement, locked: Sequence[Requirement], python: str) -> bool:
    place = {"python_version": python, "python_full_version": f"{python}.0"}
    if needed.marker and not needed.marker.evaluate(place):
        return True
    versions = [
        next(iter(entry.specifier)).version
        for entry in locked
        if canonicalize_name(entry.name) == canonicalize_name(needed.name)
        and (entry.marker is None or entry.marker.evaluate(place))
    ]
    return len(versions) == 1 and needed.specifier.contains(versions[0], prereleases=True)


def _write(path: Path, needed: Sequence[Requirement], *, upgrade: bool) -> int:
    wanted = path.with_suffix(".in")
    wanted.write_text("".join(f"{one}\n" for one in needed))
    command = [find_uv(), "pip", "compile", "--quiet", "--universal", f"--python-version={OLDEST}"]
    command += ["--generate-hashes", "--no-header", "--no-annotate", "--no-config"]
    if path != SITE:  # so that both can be installed into one environment
        command += [f"--constraints={SITE}"]
    command += [*(["--upgrade"] if upgrade else []), f"--output-file={path}", str(wanted)]
    code = run_job(Job(name="lock", command=command), captured=False).code
    wanted.unlink()
    if code == 0:
        path.write_text(HEADER + path.read_text().removeprefix(HEADER))
    return code


def find_uv() -> str:
    """Return the path of uv, from this environment or the PATH; exits if there is none."""
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    return found or sys.exit("uv is missing. Install it: pip install uv")


def _toml(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
