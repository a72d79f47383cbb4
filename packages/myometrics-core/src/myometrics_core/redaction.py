"""Texts without the secrets that URLs and connection strings carry."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["redact"]

HIDDEN: Final = "…"
# Matched once from its start: a pattern that may begin at each character takes quadratic time.
WORD: Final = re.compile(r"[^\s'\"<>]+")
PAIR: Final = re.compile(
    r"""(passw(?:or)?d['"]?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s'"&,;})]+)""",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` without the secrets of URLs and of every ``password=``.

    Hides the user info and query of a URL and the query of a path; scheme, host, port and path
    stay readable. For messages of exceptions and for log lines.
    """
    if "/" in text:
        text = WORD.sub(_hide, text)
    return PAIR.sub(rf"\1{HIDDEN}", text)


def _hide(word: re.Match[str]) -> str:
    path, mark, query = word[0].partition("?")
    if "/" in path and "://" not in path:
        return f"{path}{mark}{HIDDEN if query else ''}"
    start, scheme, rest = word[0].partition("://")
    # The last `@`: a password that was not percent-encoded may hold `/`, `?` and `@` itself.
    _, at, rest = rest.rpartition("@")
    address, mark, query = rest.partition("?")
    return f"{start}{scheme}{HIDDEN if at else ''}{at}{address}{mark}{HIDDEN if query else ''}"
