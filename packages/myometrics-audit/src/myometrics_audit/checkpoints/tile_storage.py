"""Where tiles and the checkpoint are stored: a storage of Django's ``STORAGES``."""

from __future__ import annotations

from django.core.files.storage import Storage, storages

from ..conf import audit_settings
from ..sealing.export.stored_files import write_file


def tile_storage() -> Storage:
    """Return the storage of ``CHECKPOINT_STORAGE``."""
    return storages[audit_settings.CHECKPOINT_STORAGE]


def read_tile(path: str) -> bytes:
    """Return the content of a file; raise ``FileNotFoundError`` or what the storage raises."""
    with tile_storage().open(path, "rb") as file:
        return bytes(file.read())


def write_tile(path: str, content: bytes) -> None:
    """Write or replace a file."""
    write_file(tile_storage(), path, content)


def delete_partial_tiles(path: str) -> None:
    """Delete the partial tiles of a tile that is full."""
    storage, folder = tile_storage(), f"{path}.p"
    try:
        _, names = storage.listdir(folder)
    except (FileNotFoundError, NotADirectoryError, NotImplementedError):
        return
    for name in names:
        storage.delete(f"{folder}/{name}")
    storage.delete(folder)
