"""Verification of an export with the keys alone, without the database.

A seal's signature, the leaf of an entry or an erasure, and the path from a leaf to the seal's root
cover nearly every value; each value must also be in its canonical form.
``docs/audit/reference.md`` lists the values that are not proved.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime

from ...log.models import Erasure
from ...signing.canonical import canonical_address, canonical_moment
from ...signing.keys import find_key
from ...signing.merkle import path_sides, root_from_path
from ...signing.signatures import (
    entry_leaf,
    erasure_leaf,
    seal_signature,
    subject_of,
    tree_entry,
    tree_erasure,
)
from .proofs import FORMAT

__all__ = ["export_problems"]

Line = Mapping[str, Any]
UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""Errors raised by reading a line that has values of unexpected types."""


def export_problems(lines: Iterable[str]) -> Iterator[str]:
    """Yield the problems of an export as text; needs this site's keys, not its database.

    Raises ``ValueError`` if the first line is not the header of this format.
    """
    numbered = enumerate(lines, start=1)
    _check_header(next(numbered, (1, "null"))[1])
    checker = _ExportChecker()
    for number, text in numbered:
        for problem in checker.problems(number, text):
            yield f"line {number}: {problem}"
    yield from checker.left_over()


class _ExportChecker:
    """Check line by line; keeps the current seal and the subjects of the pseudonyms."""

    def __init__(self) -> None:
        self._number = 1
        self._seal: Line | None = None
        self._position = -1
        self._erasures = 0
        self._subjects: dict[str, Line] = {}
        self._retained: dict[tuple[str, str, str], tuple[int, str]] = {}

    def problems(self, number: int, text: str) -> Iterator[str]:
        """Yield the problems of a line, and of the seal that ends before it."""
        self._number = number
        try:
            line = json.loads(text)
            if line["type"] == "seal":
                yield from self._seal_problems(line)
            elif line["type"] == "entry":
                yield from self._entry_problems(line)
            elif line["type"] == "erasure":
                yield from self._erasure_problems(line)
            else:
                raise ValueError(f"unknown type of line: {line['type']!r}")
        except UNREADABLE as error:
            yield f"can't be read ({type(error).__name__}: {error})"

    def left_over(self) -> Iterator[str]:
        """Yield the problems known only at the end: missing erasures, unknown pseudonyms."""
        yield from (f"line {self._number}: {problem}" for problem in self._missing_erasures())
        for (pseudonym, key_id, subject), (number, name) in self._retained.items():
            given = self._subjects.get(pseudonym, {}).get(key_id)
            if subject != given:
                yield f"line {number}: {name} has a pseudonym that no erasure here assigned"

    def _seal_problems(self, line: Line) -> Iterator[str]:
        yield from self._missing_erasures()
        before, self._seal, self._position, self._erasures = self._seal, None, -1, 0
        name, key = f"seal {line['number']}", find_key(line["key_id"])
        moment = _moment(line, "sealed_at")
        facts = {**line, **_bytes(line, "root", "previous"), "sealed_at": moment}
        _size(line)
        self._seal = line
        if key is None:
            yield _lost_key(line)
        elif seal_signature(SimpleNamespace(**facts), key).hex() != line["signature"]:
            yield f"{name} has a wrong signature"
        elif before and line["number"] <= before["number"]:
            yield f"{name} is repeated or out of order"
        elif (
            before
            and line["number"] == before["number"] + 1
            and line["previous"] != before["signature"]
        ):
            yield f"{name} does not follow from the seal before it"

    def _missing_erasures(self) -> Iterator[str]:
        if self._seal is not None and self._seal["erasures"] != self._erasures:
            yield (
                f"seal {self._seal['number']} covers {self._seal['erasures']} erasures, "
                f"but {self._erasures} are here"
            )

    def _entry_problems(self, line: Line) -> Iterator[str]:
        shown, key = line["entry"], find_key(line["key_id"])
        if key is None:
            yield _lost_key(line)
            return
        name, entry = f"entry {shown['id']}", SimpleNamespace(**_entry_facts(line))
        subject = line["subject"]
        if shown["user_id"] is not None and subject_of(shown["user_id"], key) != subject:
            yield f"{name} has a user that differs from its subject"
        elif not _is_plausible(line):
            yield f"{name} has an inconsistent user, pseudonym and subject"
        elif not hmac.compare_digest(entry_leaf(entry, subject, key), entry.leaf):
            yield f"{name} differs from its leaf"
        else:
            if line["pseudonym"]:
                made = (line["pseudonym"], line["key_id"], subject)
                self._retained.setdefault(made, (self._number, name))
            yield from self._place_problems(name, line, tree_entry(shown["id"], entry.leaf))

    def _erasure_problems(self, line: Line) -> Iterator[str]:
        self._erasures += line["seal"] is not None
        name, key = f"erasure {line['id']}", find_key(line["key_id"])
        values = _bytes(line, "digest", "nonce", "leaf")
        erasure = SimpleNamespace(**{**line, **values, "erased_at": _moment(line, "erased_at")})
        if key is None:
            yield _lost_key(line)
        elif not hmac.compare_digest(erasure_leaf(erasure, key), erasure.leaf):
            yield f"{name} differs from its leaf"
        else:
            if line["reason"] == Erasure.Reason.RETAIN:
                self._subjects[line["pseudonym"]] = line["details"]["subjects"]
            node = tree_erasure(UUID(line["id"]), erasure.leaf)
            yield from self._place_problems(name, line, node)

    def _place_problems(self, name: str, line: Line, node: bytes) -> Iterator[str]:
        """Check the position under the seal; ``node`` is the line's data in the seal's tree."""
        if line["seal"] is None:
            if "path" in line or "position" in line:
                yield f"{name} has a path without a seal"
        elif not self._is_under_seal(line, node):
            yield f"{name} is not under seal {line['seal']}"
        elif line["position"] <= self._position:
            yield f"{name} is repeated or out of order"
        else:
            self._position = line["position"]

    def _is_under_seal(self, line: Line, node: bytes) -> bool:
        seal = self._seal
        if seal is None or seal["number"] != line["seal"]:
            return False
        if [side for side, _ in line["path"]] != path_sides(line["position"], _size(seal)):
            return False
        path = [(side, _exact_bytes(sibling)) for side, sibling in line["path"]]
        return root_from_path(node, path).hex() == seal["root"]


def _check_header(text: str) -> None:
    try:
        header = json.loads(text)
    except RecursionError:
        header = None
    if not isinstance(header, dict) or header.get("type") != "header":
        raise ValueError("line 1 is not a header")
    if header.get("format") != FORMAT:
        raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")


def _entry_facts(line: Line) -> dict[str, Any]:
    shown = line["entry"]
    if shown["ip_address"] != canonical_address(shown["ip_address"]):
        raise ValueError(f"not an address in canonical form: {shown['ip_address']!r}")
    return {
        **shown,
        **_bytes(line, "nonce", "leaf"),
        "timestamp": _moment(shown, "timestamp"),
        "activity_id": line["activity_id"],
    }


def _is_plausible(line: Line) -> bool:
    """Return whether user, subject and pseudonym are consistent.

    An entry with a user, or without a subject, has no pseudonym; every other entry has one.
    """
    if line["entry"]["user_id"] is not None or line["subject"] is None:
        return bool(line["pseudonym"] == "")
    return bool(line["pseudonym"])


def _size(seal: Line) -> int:
    size: int = seal["entries"] + seal["erasures"]
    return size


def _lost_key(line: Line) -> str:
    return f"key {line['key_id']} is not in the settings"


def _bytes(line: Line, *names: str) -> dict[str, bytes]:
    return {name: _exact_bytes(line[name]) for name in names}


def _exact_bytes(text: str) -> bytes:
    value = bytes.fromhex(text)
    if value.hex() != text:
        raise ValueError(f"not hexadecimal digits in canonical form: {text!r}")
    return value


def _moment(line: Line, name: str) -> datetime:
    moment = parse_datetime(line[name])
    if moment is None or canonical_moment(moment) != line[name]:
        raise ValueError(f"not a time in canonical form: {line[name]!r}")
    return moment
