"""The part of ``benchmarks/capacity.py`` inside the site: writes and seals entries."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import timedelta

from django.contrib.auth import get_user_model
from django.utils import timezone

from myometrics_audit import audit
from myometrics_audit.log import NewEntry
from myometrics_audit.models import Leaf
from myometrics_audit.sealing import seal_pending

BATCH = 500
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def write_entries(count: int) -> None:
    """Write ``count`` entries about patients, and print the rate."""
    _write(_entries(count))


def write_uploads(count: int) -> None:
    """Write two entries for each of ``count`` uploads: created and completed."""
    _write(_uploads(count))


def seal() -> None:
    """Seal the pending entries, and print the rate."""
    count, started = Leaf.objects.filter(seal_number=None).count(), time.monotonic()
    for _ in seal_pending():
        pass
    print(count / (time.monotonic() - started))


def _write(entries: Iterator[NewEntry]) -> None:
    written, started = 0, time.monotonic()
    while batch := [entry for _, entry in zip(range(BATCH), entries, strict=False)]:
        audit.record_many(batch)
        written += len(batch)
    print(written / (time.monotonic() - started))


def _entries(count: int) -> Iterator[NewEntry]:
    users, now = _users(), timezone.now()
    for number in range(count):
        yield NewEntry(
            actor_id=users[number % len(users)],
            action="view",
            resource_type="patient",
            resource_id=f"patient_{number % 1000}",
            details={"page": "summary", "seconds": number % 60},
            client_address=f"10.0.{number % 250}.1",
            user_agent=AGENT,
            occurred_at=now - timedelta(seconds=count - number),
        )


def _uploads(count: int) -> Iterator[NewEntry]:
    users, now = _users(), timezone.now()
    for number in range(count):
        details = {"filename": f"scan_{number}.jpg", "file_size": 2_000_000 + number}
        diagnosis = {"diagnosis": "Normal", "confidence": 0.93, "processing_time": 31.5}
        for action, more in (("upload_created", {}), ("upload_completed", diagnosis)):
            yield NewEntry(
                actor_id=users[number % len(users)],
                action=action,
                resource_type="upload",
                resource_id=f"capacity_{number}",
                details={**details, **more},
                client_address="10.0.0.1",
                user_agent=AGENT,
                occurred_at=now - timedelta(minutes=count - number),
            )


def _users() -> Sequence[int]:
    return list(get_user_model().objects.order_by("pk").values_list("pk", flat=True))
