"""Generated uploads: the same ones for the same day, whenever they are generated."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from myometrics_core.times import utc_day_start

DIAGNOSES = {
    "Normal": 58,
    "Myocardial Infarction": 17,
    "Arrhythmia": 11,
    "Cardiomyopathy": 8,
    "Valve Disease": 6,
}
WEEKDAY_UPLOADS, WEEKEND_UPLOADS = (12, 26), (2, 7)
FAILED, PROCESSING = 0.05, 0.08


@dataclass(frozen=True)
class DemoUpload:
    """One upload as recorded in the audit log."""

    upload_id: str
    occurred_at: datetime
    action: str
    details: Mapping[str, Any]


def uploads_of_day(day: date, until: datetime) -> Iterator[DemoUpload]:
    """Return the uploads of ``day`` in UTC, none of them later than ``until`` (aware)."""
    chance = random.Random(day.toordinal())
    start = utc_day_start(day)
    seconds = min((until - start).total_seconds(), timedelta(days=1).total_seconds() - 1)
    low, high = WEEKDAY_UPLOADS if day.weekday() < 5 else WEEKEND_UPLOADS
    for number in range(chance.randint(low, high)):
        yield _upload(chance, f"demo-{day:%Y%m%d}-{number:03}", start, seconds)


def _upload(chance: random.Random, upload_id: str, start: datetime, seconds: float) -> DemoUpload:
    details: dict[str, Any] = {
        "filename": f"cardiac_scan_{upload_id[5:]}.jpg",
        "file_size": chance.randint(400_000, 6_000_000),
    }
    occurred_at = start + timedelta(seconds=int(chance.random() * seconds))
    outcome = chance.random()
    if outcome < FAILED:
        return DemoUpload(upload_id, occurred_at, "upload_failed", details)
    if outcome < FAILED + PROCESSING:
        return DemoUpload(upload_id, occurred_at, "upload_processing", details)
    details["diagnosis"] = chance.choices(list(DIAGNOSES), weights=list(DIAGNOSES.values()))[0]
    details["confidence"] = round(chance.uniform(0.71, 0.99), 2)
    details["processing_time"] = round(chance.uniform(18, 75), 1)
    return DemoUpload(upload_id, occurred_at, "upload_created", details)
