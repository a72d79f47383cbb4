"""Verification of an export with the keys alone, without the database.

A seal's signature, the leaf of an entry or an erasure, and the path from a leaf to the seal's root
cover nearly every value; each value must also be in its canonical form.
``docs/audit/reference.md`` lists the values that are not proved.
"""

from __future__ import annotations

import hmac
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime

from myometrics_core.http import canonical_address
from myometrics_core.times import utc_text

from ...log.models import OPTIONAL_LENGTHS, Erasure
from ...signing.keys import Key, find_key
from ...signing.merkle import path_sides, root_from_path
from ...signing.signatures import (
    canonical_entry_v2,
    entry_leaf,
    entry_leaf_v2,
    erasure_digest,
    erasure_leaf,
    is_committed,
    is_tagged,
    seal_signature,
    subject_of,
    tree_entry,
    tree_erasure,
)
from ..verification.entry_checks import retained_by
from .proofs import FORMAT

Line = Mapping[str, Any]
OLD_FORMAT = "myometrics-audit/1"
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
    export_format = _header_format(next(numbered, (1, "null"))[1])
    with closing(sqlite3.connect("")) as temporary:
        checker = _ExportChecker(export_format, _ErasedEntries(temporary))
        for number, text in numbered:
            for problem in checker.problems(number, text):
                yield f"line {number}: {problem}"
        yield from checker.left_over()


class _ExportChecker:
    """Check line by line; keeps the current seal and the subjects of the pseudonyms."""

    def __init__(self, export_format: str, erased: _ErasedEntries) -> None:
        self._format = export_format
        self._erased = erased
        self._number = 1
        self._seal: Line | None = None
        self._position = -1
        self._erasures = 0
        self._subjects: dict[str, dict[tuple[str, int], Any]] = {}
        self._retained: dict[tuple[str, str, int, str], tuple[int, str]] = {}

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
            elif line["type"] == "erased":
                yield from self._erased_problems(line)
            else:
                raise ValueError(f"unknown type of line: {line['type']!r}")
        except UNREADABLE as error:
            yield f"can't be read ({type(error).__name__}: {error})"

    def left_over(self) -> Iterator[str]:
        """Yield the problems known only at the end.

        They are missing erasures, unknown pseudonyms, and entries that were not erased.
        """
        yield from (f"line {self._number}: {problem}" for problem in self._missing_erasures())
        for (pseudonym, key_id, version, subject), (number, name) in self._retained.items():
            given = self._subjects.get(pseudonym, {}).get((key_id, version))
            if subject != given:
                yield f"line {number}: {name} has a pseudonym that no erasure here assigned"
        yield from self._erased.problems()

    def _seal_problems(self, line: Line) -> Iterator[str]:
        yield from self._missing_erasures()
        before, self._seal, self._position, self._erasures = self._seal, None, -1, 0
        name, key = f"seal {line['number']}", find_key(line["key_id"])
        moment = exact_moment(line, "sealed_at")
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
        version = self._version(line)
        if key is None:
            yield _lost_key(line)
            if version == 1:
                return
        name, entry = f"entry {shown['id']}", SimpleNamespace(**_entry_facts(line, version))
        subject = line["subject"]
        if not _is_users(line, version, key):
            yield f"{name} has a user that differs from its subject"
        elif not _is_plausible(line):
            yield f"{name} has an inconsistent user, pseudonym and subject"
        elif not _is_signed(line, entry, version, key):
            yield f"{name} differs from its leaf"
        else:
            if line["pseudonym"]:
                made = (line["pseudonym"], line["key_id"], version, subject)
                self._retained.setdefault(made, (self._number, name))
            yield from self._place_problems(name, line, tree_entry(shown["id"], entry.leaf))

    def _version(self, line: Line) -> int:
        """Return the version of an entry; exports of releases before 0.2 don't contain it."""
        if self._format == OLD_FORMAT:
            if "version" in line:
                raise ValueError("a version in this format")
            return 1
        if line["version"] not in (1, 2) or isinstance(line["version"], bool):
            raise ValueError(f"unknown version: {line['version']!r}")
        return int(line["version"])

    def _erasure_problems(self, line: Line) -> Iterator[str]:
        self._erasures += line["seal"] is not None
        name, key = f"erasure {line['id']}", find_key(line["key_id"])
        values = _bytes(line, "digest", "nonce", "leaf")
        erasure = SimpleNamespace(
            **{**line, **values, "erased_at": exact_moment(line, "erased_at")}
        )
        if key is None:
            yield _lost_key(line)
        elif not hmac.compare_digest(erasure_leaf(erasure, key), erasure.leaf):
            yield f"{name} differs from its leaf"
        else:
            if line["reason"] == Erasure.Reason.RETAIN:
                self._subjects[line["pseudonym"]] = retained_by(line["details"])
            self._erased.add_erasure(self._number, line, erasure.digest)
            node = tree_erasure(UUID(line["id"]), erasure.leaf)
            yield from self._place_problems(name, line, node)

    def _erased_problems(self, line: Line) -> Iterator[str]:
        entry_id, leaf = line["id"], exact_bytes(line["leaf"])
        node = tree_entry(entry_id, leaf)
        if line["erasure"] is None:
            yield f"entry {entry_id} is missing, without an erasure"
        else:
            self._erased.add(UUID(line["erasure"]), entry_id, leaf)
        yield from self._place_problems(f"erased entry {entry_id}", line, node)

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
        path = [(side, exact_bytes(sibling)) for side, sibling in line["path"]]
        return root_from_path(node, path).hex() == seal["root"]


class _ErasedEntries:
    """The erased entries that an export names, and its erasures, in a temporary SQLite file."""

    def __init__(self, stored: sqlite3.Connection) -> None:
        self._stored = stored
        self._stored.execute(
            "CREATE TABLE erased (erasure, id, leaf, PRIMARY KEY (erasure, id)) WITHOUT ROWID"
        )
        self._stored.execute(
            "CREATE TABLE erasure (id PRIMARY KEY, line, entries, digest, is_range)"
        )

    def add(self, erasure_id: UUID, entry_id: int, leaf: bytes) -> None:
        """Add an entry that an erasure is said to have erased."""
        values = (str(erasure_id), entry_id, leaf)
        self._stored.execute("INSERT OR IGNORE INTO erased VALUES (?, ?, ?)", values)

    def add_erasure(self, number: int, line: Line, digest: bytes) -> None:
        """Add an erasure; its line is a genuine one."""
        entries = line["entries"]
        is_range = "first_id" in line["details"] and line["seal"] is not None
        if line["reason"] == Erasure.Reason.RETAIN:
            entries = 0
        values = (line["id"], number, entries, digest, is_range)
        self._stored.execute("INSERT OR IGNORE INTO erasure VALUES (?, ?, ?, ?, ?)", values)

    def problems(self) -> Iterator[str]:
        """Yield the erasures that are missing, or have not erased the entries that name them.

        An erasure can be sealed before its entries, which an export up to a checkpoint may then
        not have yet; a range is only erased once all its entries are sealed.
        """
        missing = (
            "SELECT erasure, COUNT(*) FROM erased WHERE erasure NOT IN (SELECT id FROM erasure) "
            "GROUP BY erasure ORDER BY erasure"
        )
        for erasure_id, count in self._stored.execute(missing):
            yield f"erasure {erasure_id} is missing, but {count} entries name it"
        named = "SELECT * FROM erasure WHERE id IN (SELECT erasure FROM erased) ORDER BY line"
        for erasure_id, number, entries, digest, is_range in self._stored.execute(named):
            rows = self._stored.execute(
                "SELECT id, leaf FROM erased WHERE erasure = ? ORDER BY id", [erasure_id]
            )
            count, found = erasure_digest(rows)
            is_part = count < entries and not is_range
            if not is_part and (count, found) != (entries, digest):
                yield (
                    f"line {number}: erasure {erasure_id} has erased {entries} entries, but "
                    f"{count} name it here, or other ones"
                )


def _header_format(text: str) -> str:
    """Return the format that the header names; raise ``ValueError`` if it is unknown."""
    try:
        header = json.loads(text)
    except RecursionError:
        header = None
    if not isinstance(header, dict) or header.get("type") != "header":
        raise ValueError("line 1 is not a header")
    if header.get("format") not in (FORMAT, OLD_FORMAT):
        raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")
    return str(header["format"])


def _entry_facts(line: Line, version: int) -> dict[str, Any]:
    shown = line["entry"]
    if shown["ip_address"] != canonical_address(shown["ip_address"]):
        raise ValueError(f"not an address in canonical form: {shown['ip_address']!r}")
    facts = {
        **shown,
        **_bytes(line, "nonce", "leaf"),
        "timestamp": exact_moment(
            shown, "timestamp", "microseconds" if version == 1 else "milliseconds"
        ),
        "activity_id": line["activity_id"],
    }
    if version == 1:
        if shown.get("origin") is not None:
            raise ValueError(f"version 1 has no origin: {shown['origin']!r}")
        return facts
    added = {name: line[name] for name in OPTIONAL_LENGTHS}
    if not all(isinstance(text, str) for text in added.values()):
        raise ValueError(f"not text: {added}")
    return {**facts, **added}


def _is_users(line: Line, version: int, key: Key | None) -> bool:
    """Return whether the subject is that of the line's user; version 2 needs no key for this."""
    user_id = line["entry"]["user_id"]
    if version == 1:
        return user_id is None or (key is not None and subject_of(user_id, key) == line["subject"])
    nonce = line["actor_nonce"]
    if user_id is None:
        return nonce is None
    return is_committed(user_id, exact_bytes(nonce), line["subject"])


def _is_signed(line: Line, entry: Any, version: int, key: Key | None) -> bool:
    """Return whether the leaf covers the values of the line."""
    if version == 1:
        leaf = entry_leaf(entry, line["subject"], key) if key else b""
        return hmac.compare_digest(leaf, entry.leaf)
    row = canonical_entry_v2(entry, line["subject"])
    return (
        row.decode() == line["row"]
        and hmac.compare_digest(entry_leaf_v2(entry.nonce, row), entry.leaf)
        and (key is None or is_tagged(entry.nonce, row, key))
    )


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
    return {name: exact_bytes(line[name]) for name in names}


def exact_bytes(text: str) -> bytes:
    """Return the bytes of hexadecimal digits; raise ``ValueError`` if not in canonical form."""
    value = bytes.fromhex(text)
    if value.hex() != text:
        raise ValueError(f"not hexadecimal digits in canonical form: {text!r}")
    return value


def exact_moment(line: Line, name: str, timespec: str = "microseconds") -> datetime:
    """Return the time of a line; raise ``ValueError`` if it is not in canonical form."""
    moment = parse_datetime(line[name])
    if moment is None or utc_text(moment, timespec) != line[name]:
        raise ValueError(f"not a time in canonical form: {line[name]!r}")
    return moment
