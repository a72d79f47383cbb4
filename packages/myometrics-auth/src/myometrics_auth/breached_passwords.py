"""Lists of breached passwords: a compact file, and the look-up by hash prefix over HTTP.

The file has a header and the sorted, distinct first six bytes of SHA-1 hashes. A password that is
not in the list is found by chance once in 2**48 / length: once in 28 million for a list of ten
million, once in 280,000 for a billion.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import tempfile
import unicodedata
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

MAGIC: Final = b"breached passwords 1\n"
RECORD: Final = 6
"""Bytes of a hash that the file stores."""
HASH_LINE: Final = re.compile(rb"([0-9A-Fa-f]{40})(?::(\d+))?")
"""A SHA-1 hash, with the number of times it was seen: the format of "Have I Been Pwned"."""
RANGE_URL: Final = "https://api.pwnedpasswords.com/range/"
MAX_RESPONSE: Final = 1024 * 1024


class BreachedPasswords:
    """A file of :func:`write_breached_passwords`, mapped into memory and searched there.

    Raises ``ValueError`` if it is no such file, ``OSError`` if it can't be read.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size - len(MAGIC)
            if file.read(len(MAGIC)) != MAGIC or size % RECORD:
                raise ValueError(f"{path} was not written by manage.py breached_passwords")
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._length = size // RECORD

    def __len__(self) -> int:
        return self._length

    def __contains__(self, password: str) -> bool:
        wanted = _sha1(password)[:RECORD]
        low, high = 0, self._length
        while low < high:
            middle = (low + high) // 2
            found = self._record(middle)
            if found == wanted:
                return True
            low, high = (middle + 1, high) if found < wanted else (low, middle)
        return False

    def _record(self, number: int) -> bytes:
        start = len(MAGIC) + number * RECORD
        return self._map[start : start + RECORD]


def write_breached_passwords(
    path: str | os.PathLike[str],
    lines: IO[bytes],
    *,
    count: int | None = None,
    seen: int = 1,
    progress: Callable[[int], None] = lambda read: None,
) -> int:
    """Write the file from a list, and replace an existing one; return the number of hashes.

    Each line of ``lines`` is a password, or a SHA-1 hash with an optional ``:count``. Only the
    first ``count`` lines are used, and of hashes with counts those that were seen ``seen`` times.
    ``progress`` is called with the number of bytes read. Hashes are sorted in 256 parts, so memory
    holds at most about a 256th of them.
    """
    target = Path(path)
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=target.parent))
        parts: dict[int, IO[bytes]] = {}
        for record in _records(lines, count, seen, progress):
            if record[0] not in parts:
                path_of_part = Path(folder, f"{record[0]:02x}")
                parts[record[0]] = stack.enter_context(open(path_of_part, "w+b"))
            parts[record[0]].write(record)
        written = 0
        result = Path(folder, "result")
        with open(result, "wb") as file:
            file.write(MAGIC)
            for _first, part in sorted(parts.items()):
                part.seek(0)
                content = part.read()
                starts = range(0, len(content), RECORD)
                records = sorted({content[start : start + RECORD] for start in starts})
                file.write(b"".join(records))
                written += len(records)
        os.replace(result, target)
    return written


def is_breached_online(password: str, *, url: str = RANGE_URL, timeout: float) -> bool:
    """Ask a k-anonymity service; only the first five hexadecimal digits of the hash leave.

    Raises ``OSError`` or ``ValueError`` if there is no usable response.
    """
    digest = _sha1(password).hex().upper()
    request = urllib.request.Request(  # noqa: S310 (the validator checks the scheme)
        url + digest[:5], headers={"Add-Padding": "true", "User-Agent": "myometrics-auth"}
    )
    with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
        content = response.read(MAX_RESPONSE).decode("ascii")
    # Padding has the count 0.
    suffixes = dict(line.strip().upper().partition(":")[::2] for line in content.splitlines())
    return int(suffixes.get(digest[5:], 0)) > 0


def _records(
    lines: IO[bytes], count: int | None, seen: int, progress: Callable[[int], None]
) -> Iterator[bytes]:
    read = 0
    for number, line in enumerate(lines):
        if number == count:
            return
        read += len(line)
        if number % 10_000 == 0:
            progress(read)
        text = line.rstrip(b"\r\n")
        if match := HASH_LINE.fullmatch(text):
            if int(match[2] or seen) >= seen:
                yield bytes.fromhex(match[1].decode())[:RECORD]
        elif text:
            yield hashlib.sha1(_normalized(text), usedforsecurity=False).digest()[:RECORD]


def _normalized(text: bytes) -> bytes:
    try:
        return unicodedata.normalize("NFC", text.decode()).encode()
    except UnicodeDecodeError:  # old lists mix encodings
        return text


def _sha1(password: str) -> bytes:
    return hashlib.sha1(password.encode(), usedforsecurity=False).digest()
