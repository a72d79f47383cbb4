"""Examination of the storage of exports for ``manage.py myometrics_doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from django.core.files.storage import storages

from myometrics_core.doctor import Diagnosis, register_examination

from .conf import notifications_settings


def register_examinations() -> None:
    """Register the examination with core, which examines the jobs of this package itself."""
    register_examination("exports", examine_exports)


def examine_exports() -> Iterator[Diagnosis]:
    """Report whether export files can be written."""
    name = "export storage"
    try:
        folder = Path(storages[notifications_settings.EXPORT_STORAGE].path(""))
    except NotImplementedError:
        yield Diagnosis(name, "ok", "Not a folder of this machine; not examined.")
        return
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    if nearest.is_dir() and os.access(nearest, os.W_OK):
        yield Diagnosis(name, "ok", "Its folder is writable, or can be made.")
        return
    yield Diagnosis(
        name,
        "problem",
        "Its folder can't be written.",
        "Let the web and worker processes write to it: MEDIA_ROOT, or the storage's location.",
    )
