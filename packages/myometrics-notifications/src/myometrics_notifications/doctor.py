"""Examinations of the outbox and the exports for ``manage.py myometrics_doctor``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from django.core.files.storage import storages

from myometrics_core.doctor import Diagnosis, describe_age, register_examination

from .conf import notifications_settings
from .gauges import outbox_age_seconds
from .models import ExportFile, Message

__all__ = ["examine_exports", "examine_outbox", "register_examinations"]

MAX_OUTBOX_AGE: Final = 600.0


def register_examinations() -> None:
    """Register the examinations with core."""
    register_examination("outbox", examine_outbox, needs_database=True)
    register_examination("exports", examine_exports, needs_database=True)


def examine_outbox() -> Iterator[Diagnosis]:
    """Report how long mails wait, and the number of dead letters."""
    waiting = Message.objects.filter(state=Message.State.QUEUED).count()
    age = outbox_age_seconds()
    if age > MAX_OUTBOX_AGE:
        yield Diagnosis(
            "outbox",
            "problem",
            f"{waiting} mails wait, the oldest for {describe_age(age)}.",
            "See whether the mail server answers and a worker and beat run; "
            "'manage.py notifications_sweep' sends what is due.",
        )
    else:
        yield Diagnosis("outbox", "ok", f"{waiting} mails wait, none for long.")
    dead = Message.objects.filter(state=Message.State.DEAD).count()
    if dead:
        yield Diagnosis(
            "failed mails",
            "warning",
            f"{dead} mails failed for good.",
            "The admin shows their errors under 'Messages', and can retry them.",
        )
    else:
        yield Diagnosis("failed mails", "ok", "None.")


def examine_exports() -> Iterator[Diagnosis]:
    """Report whether export files can be written, and the number of failed exports."""
    yield _storage()
    dead = ExportFile.objects.filter(state=ExportFile.State.DEAD).count()
    if dead:
        yield Diagnosis(
            "failed exports",
            "warning",
            f"{dead} exports failed for good.",
            "The admin shows their errors under 'Export files'.",
        )


def _storage() -> Diagnosis:
    name = "export storage"
    try:
        folder = Path(storages[notifications_settings.EXPORT_STORAGE].path(""))
    except NotImplementedError:
        return Diagnosis(name, "ok", "Not a folder of this machine; not examined.")
    if _can_hold_files(folder):
        return Diagnosis(name, "ok", "Its folder is writable, or can be made.")
    return Diagnosis(
        name,
        "problem",
        "Its folder can't be written.",
        "Let the web and worker processes write to it: MEDIA_ROOT, or the storage's location.",
    )


def _can_hold_files(folder: Path) -> bool:
    """Whether ``folder``, or its nearest existing parent, is a writable directory."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK)
