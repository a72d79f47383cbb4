"""The table of the composed site's variables, generated from ``.env.example``."""

from __future__ import annotations

import re
from posixpath import relpath

VARIABLE = re.compile(r"#?([A-Z][A-Z_]*)=(.*)")
PAGE = re.compile(r"docs/((?:[\w-]+/)*([\w-]+)\.md)")


def variables_table(example: str) -> str:
    """Return a Markdown table with a row for each variable in ``example``, a ``.env.example`` text.

    Raises ``ValueError`` for a variable without a comment above it.
    """
    rows = ["| variable | default or example | meaning |", "|---|---|---|"]
    comment: list[str] = []
    for line in example.splitlines():
        variable = VARIABLE.fullmatch(line)
        if variable:
            rows.append(_row(variable[1], variable[2], " ".join(comment)))
            comment = []
        elif line.startswith("# "):
            comment.append(line.removeprefix("# "))
        else:
            comment = []
    return "\n".join(rows)


def _row(name: str, value: str, meaning: str) -> str:
    if not meaning:
        raise ValueError(f"{name} of .env.example needs a comment of its own.")
    cells = f"`{name}`", f"`{value}`" if value else "–", _markdown(meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _markdown(meaning: str) -> str:
    """Return ``meaning`` with URLs and commands as code, and links to the pages it names."""
    coded = re.sub(r"(?<!\S)(\S+://\S*[\w/]|python3? -c \".*\"|\[::\]|--\S+ -)", r"`\1`", meaning)
    return PAGE.sub(lambda page: f"[{page[2]}]({relpath(page[1], 'operations')})", coded)
