"""Anchors: published values of seals, which prove that the seals existed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
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
            with Path(audit_settings.ANCHOR_FILE).open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        if audit_settings.ANCHOR_HOOK is not None:
            audit_settings.ANCHOR_HOOK(anchor)
        seals.filter(number=seal.number, anchored_at=None).update(anchored_at=timezone.now())
        yield seal
