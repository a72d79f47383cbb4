"""Anchors: published values of seals, which prove that the seals existed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from os import SEEK_END
from pathlib import Path

from django.utils import timezone

from ..conf import audit_settings
from ..log.models import Seal
from ..signing.canonical import canonical_moment

logger = logging.getLogger("myometrics.audit.anchor")


def anchors_publish(*, using: str) -> Iterator[Seal]:
    """Publish every unpublished seal, in order; yield after each.

    Publishes to the logger ``myometrics.audit.anchor``, ``ANCHOR_FILE`` and ``ANCHOR_HOOK``, and
    raises their errors. A seal may be published again if the process is killed in between.
    """
    seals = Seal.objects.using(using)
    for seal in list(seals.filter(anchored_at=None).order_by("number")):
        anchor = {
            "number": seal.number,
            "signature": bytes(seal.signature).hex(),
            "sealed_at": canonical_moment(seal.sealed_at),
            "entries": seal.entries,
        }
        line = json.dumps(anchor, sort_keys=True)
        logger.info("%s", line, extra={"anchor": anchor})
        if audit_settings.ANCHOR_FILE:
            _append(Path(audit_settings.ANCHOR_FILE), line)
        if audit_settings.ANCHOR_HOOK is not None:
            audit_settings.ANCHOR_HOOK(anchor)
        seals.filter(number=seal.number, anchored_at=None).update(anchored_at=timezone.now())
        yield seal


def _append(path: Path, line: str) -> None:
    """Append a line; a full disk may have cut off the last one, which is then written again."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n" if _is_cut_off(path) else f"{line}\n")


def _is_cut_off(path: Path) -> bool:
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        with path.open("rb") as file:
            file.seek(-1, SEEK_END)
            return file.read() != b"\n"
    except PermissionError:  # this process may only write
        return False
