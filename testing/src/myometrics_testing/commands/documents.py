"""Generated parts of the documents, between markers.

Markers are those of mkdocs' snippets, ``--8<-- [start:settings]`` to ``--8<-- [end:settings]``, so
that one page can include a part of another.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import django

from myometrics_testing.commands.public_names import PUBLIC, public_names_table
from myometrics_testing.commands.repository import PACKAGES, PREFIX, ROOT
from myometrics_testing.commands.settings_tables import GROUPS, settings_group, settings_table
from myometrics_testing.commands.variables_table import variables_table

DOCS = ROOT / "docs"
ARCHITECTURE = DOCS / "architecture.md"
VARIABLES = DOCS / "operations" / "variables.md"


def main() -> int:
    """Write the parts that are out of date; with ``--check`` list them and fail instead."""
    parser = argparse.ArgumentParser(prog="documents", description=main.__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    django.setup()
    stale = [
        path
        for path, name, text in _parts()
        if _bring_up_to_date(path, name, text, write=not check)
    ]
    for path in stale:
        print(f"{'out of date' if check else 'written'}: {path.relative_to(ROOT)}")
    if stale and check:
        print("python3 dev docs write brings them up to date.")
    return int(check and bool(stale))


def between_markers(document: str, name: str, text: str) -> str:
    """Return ``document`` with ``text`` in part ``name``; ``ValueError`` without markers."""
    start, end = (f"<!-- --8<-- [{edge}:{name}] -->" for edge in ("start", "end"))
    pattern = re.compile(f"({re.escape(start)}\n).*?({re.escape(end)})", re.DOTALL)
    found, count = pattern.subn(lambda match: f"{match[1]}\n{text}\n\n{match[2]}", document)
    if count != 1:
        raise ValueError(f"There must be one part {name!r} between markers; there are {count}.")
    return found


def reference_page(package: str) -> Path:
    """Return the page that lists the package's public names."""
    return DOCS / package / "reference.md"


def _parts() -> Iterator[tuple[Path, str, str]]:
    """Yield each generated part: the document, the part's name, its text."""
    for package in GROUPS:
        readme = PACKAGES / f"{PREFIX}{package}" / "README.md"
        yield readme, "settings", settings_table(settings_group(package))
    for package in PUBLIC:
        yield reference_page(package), package, public_names_table(package)
    yield ARCHITECTURE, "decisions", "\n".join(map(_decision, sorted(DOCS.glob("adr/*.md"))))
    yield VARIABLES, "variables", variables_table((ROOT / ".env.example").read_text())


def _bring_up_to_date(path: Path, name: str, text: str, *, write: bool) -> bool:
    """Return whether the part ``name`` of ``path`` was out of date."""
    before = path.read_text()
    after = between_markers(before, name, text)
    if write and after != before:
        path.write_text(after)
    return after != before


def _decision(path: Path) -> str:
    title = path.read_text().partition("\n")[0].lstrip("# ")
    return f"- [{title}](adr/{path.name})"


if __name__ == "__main__":
    sys.exit(main())
