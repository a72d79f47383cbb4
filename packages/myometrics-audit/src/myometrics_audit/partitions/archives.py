"""Archive files: the entries of a partition with their proofs, compressed."""

from __future__ import annotations

import gzip
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from io import FileIO
from pathlib import Path
from typing import Final, TextIO

from ..sealing.export import export_problems

ENTRY: Final = '{"type": "entry"'
CHUNK: Final = 1024 * 1024


class ArchiveFailed(Exception):
    """The file could not be written, or is not what was written."""


class ArchiveInUse(Exception):
    """Another process writes this file."""


class Archive:
    """A file that is complete and checked, but does not have the name ``path`` yet."""

    def __init__(self, path: Path, unfinished: Path) -> None:
        self.path, self._unfinished = path, unfinished
        self.sha256 = _sha256(unfinished)
        self.is_published = False

    def publish(self) -> None:
        """Give the file its name; raises ``ArchiveFailed``."""
        if self.is_published:
            return
        try:
            self._unfinished.replace(self.path)
            self.is_published = True
            _sync_folder(self.path.parent)
        except OSError as error:
            raise ArchiveFailed(f"{self.path} can't be written: {error}") from error


@contextmanager
def written_archive(
    path: Path, lines: Iterable[str], *, entries: int, progress: Callable[[int], object]
) -> Iterator[Archive]:
    """Write ``lines`` to a file and check it; the caller publishes it, or else it is deleted.

    It must have as many ``entries``. ``progress`` is called with the number of lines written.
    Raises ``ArchiveFailed``, and ``ArchiveInUse`` if another process writes this file.
    """
    unfinished, archive = path.with_name(f".{path.name}.part"), None
    with _locked(unfinished) as file:
        try:
            try:
                _write(file, lines, progress)
                _check(unfinished, entries)
                archive = Archive(path, unfinished)
            except (OSError, EOFError, zlib.error, sqlite3.Error) as error:
                raise ArchiveFailed(f"{path} can't be written: {error}") from error
            yield archive
        finally:
            if archive is None or not archive.is_published:
                with suppress(OSError):  # the storage may have failed
                    unfinished.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[FileIO]:
    """Open an empty file, which only its owner can read, for this process alone."""
    import fcntl  # noqa: PLC0415 (missing on Windows)

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    except OSError as error:
        raise ArchiveFailed(f"{path} can't be written: {error}") from error
    with open(descriptor, "wb", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            opened, found = os.fstat(descriptor), path.stat()
            if opened.st_size and os.path.samestat(opened, found):
                file.truncate(0)
        except (BlockingIOError, FileNotFoundError):
            raise ArchiveInUse from None
        except OSError as error:  # such as a network storage without locks
            raise ArchiveFailed(f"{path} can't be written: {error}") from error
        if not os.path.samestat(opened, found):
            raise ArchiveInUse  # published after it was opened here
        yield file


def _write(file: FileIO, lines: Iterable[str], progress: Callable[[int], object]) -> None:
    with (
        open(file.fileno(), "wb", closefd=False) as buffered,
        gzip.GzipFile(fileobj=buffered, mode="wb", filename="") as compressed,
    ):
        for number, line in enumerate(lines, start=1):
            compressed.write(f"{line}\n".encode())
            progress(number)
    os.fsync(file.fileno())


def _check(path: Path, entries: int) -> None:
    found = 0

    def counted(file: TextIO) -> Iterator[str]:
        nonlocal found
        for line in file:
            found += line.startswith(ENTRY)
            yield line

    with gzip.open(path, "rt", encoding="utf-8") as file:
        problem = next(export_problems(counted(file)), None)
    if problem is not None:
        raise ArchiveFailed(f"The archive can't be verified, so nothing was removed: {problem}.")
    if found != entries:
        raise ArchiveFailed(
            f"The archive has {found:,} entries, not {entries:,}, so nothing was removed."
        )


def _sha256(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
