"""Texts without the secrets that URLs and connection strings carry."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["redact"]

HIDDEN: Final = "…"
# Up to the last `@`: a password that was not percent-encoded may hold `/`, `?` and `@` itself.
USER_INFO: Final = re.compile(r"(?<=://)[^\s'\"<>]*@")
QUERY: Final = re.compile(r"(://[^\s'\"<>?]*\?)[^\s'\"<>]+")
PAIR: Final = re.compile(
    r"""(\w*passw(?:or)?d['"]?\s*[=:]\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s'"&,;})]+)""",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """``text`` with the user info and the query of every URL, and every ``password=``, hidden.

    For messages of exceptions and for log lines: scheme, host, port and path stay readable.
    """
    if "://" in text:
        text = QUERY.sub(rf"\1{HIDDEN}", USER_INFO.sub(f"{HIDDEN}@", text))
    return PAIR.sub(rf"\1{HIDDEN}", text)
