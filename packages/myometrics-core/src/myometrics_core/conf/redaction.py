"""Removal of secrets from URLs and connection strings in text."""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "…"
# Consumes whole words: a pattern that may start at each character takes quadratic time.
WORD: Final = re.compile(r"[^\s'\"<>]+")
PAIR: Final = re.compile(
    r"""(passw(?:or)?d['"]?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s'"&,;})]+)""",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """Return ``text`` without the secrets of URLs and of every ``password=``.

    Hides the user info and query of a URL, and the query of a path; scheme, host, port and path
    stay readable. For exception messages and log lines.
    """
    # Most texts have no secret: these conditions are faster than the expressions.
    if "/" in text and ("?" in text or "@" in text):
        text = WORD.sub(_hide, text)
    if "passw" in text.casefold():
        text = PAIR.sub(rf"\1{HIDDEN}", text)
    return text


def _hide(word: re.Match[str]) -> str:
    path, mark, query = word[0].partition("?")
    if "/" in path and "://" not in path:
        return f"{path}{mark}{HIDDEN if query else ''}"
    start, scheme, rest = word[0].partition("://")
    # Split at the last `@`: an unencoded password may contain `/`, `?` and `@`.
    _, at, rest = rest.rpartition("@")
    address, mark, query = rest.partition("?")
    return f"{start}{scheme}{HIDDEN if at else ''}{at}{address}{mark}{HIDDEN if query else ''}"
