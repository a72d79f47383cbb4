"""Files that replace earlier ones in a storage of Django's ``STORAGES``."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from django.core.files.base import ContentFile
from django.core.files.storage import FileSystemStorage, Storage


def write_file(storage: Storage, path: str, content: bytes) -> None:
    """Write or replace a file. In a local folder readers see the old one or the new one."""
    if not isinstance(storage, FileSystemStorage):
        _save(storage, path, content)
        return
    place = Path(storage.path(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(place)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _save(storage: Storage, path: str, content: bytes) -> None:
    saved = storage.save(path, ContentFile(content))
    if saved != path:  # The storage does not overwrite.
        storage.delete(saved)
        storage.delete(path)
        storage.save(path, ContentFile(content))
