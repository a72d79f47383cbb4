"""Client of the image service: ``GET {MICROSERVICE_URL}/uploads``, parsed as a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime, timezone
from functools import lru_cache
from http.client import HTTPException, HTTPResponse, InvalidURL
from typing import Any, Final
from urllib import error, request

import ijson  # type: ignore[import-untyped]
from django.utils.dateparse import parse_datetime

from myometrics_core.texts import is_storable
from myometrics_core.users import parse_user_id

from ..conf import analytics_settings, image_service_url
from ..facts.upload_event import (
    Origin,
    UploadEvent,
    as_confidence,
    as_text,
    as_upload_id,
)
from ..models import MAX_DIAGNOSIS_LENGTH, MAX_FILENAME_LENGTH, Status
from .upload_sources import BadRow, Listing, SourceUnavailable, UploadSource, Validators

STATUSES: Final = {
    "created": Status.PROCESSING,
    "uploaded": Status.PROCESSING,
    "queued": Status.PROCESSING,
    "processing": Status.PROCESSING,
    "processed": Status.COMPLETED,
    "completed": Status.COMPLETED,
    "failed": Status.FAILED,
}
HEAD_BYTES: Final = 65536
MAX_ADDRESS_LENGTH: Final = 320
FIRST_MOMENT: Final = datetime(1, 1, 2, tzinfo=timezone.utc)
END_OF_MOMENTS: Final = datetime(9999, 12, 31, tzinfo=timezone.utc)
"""Times beside them, which stand for "unknown", don't exist in every time zone."""
# A response names each user many times.
_parse_user_id = lru_cache(maxsize=1024)(parse_user_id)


class ImageService(UploadSource):
    """The external service that analyses images and lists its uploads."""

    def is_configured(self) -> bool:
        return image_service_url() is not None

    def fetch(self, validators: Validators) -> Listing:
        deadline = time.monotonic() + analytics_settings.PULL_DEADLINE
        headers = {"Accept": "application/json", "User-Agent": "myometrics-analytics"}
        if validators.etag:
            headers["If-None-Match"] = validators.etag
        if validators.last_modified:
            headers["If-Modified-Since"] = validators.last_modified
        try:
            response = _open(f"{image_service_url()}/uploads", headers)
        except error.HTTPError as failure:
            failure.close()
            if failure.code == 304:
                return Listing(is_unchanged=True, validators=validators)
            raise SourceUnavailable(f"it responded with status {failure.code}") from failure
        except (OSError, HTTPException, ValueError) as failure:
            raise SourceUnavailable(_reason(failure)) from failure
        found = Validators(
            etag=(response.headers.get("ETag") or "")[:500],
            last_modified=(response.headers.get("Last-Modified") or "")[:100],
        )
        return Listing(rows=_rows(response, deadline), validators=found)


class _Reader:
    """Reads available bytes until the deadline; keeps the first bytes in ``head``."""

    def __init__(self, response: HTTPResponse, deadline: float) -> None:
        self.response = response
        self.deadline = deadline
        self.head = b""

    def read(self, size: int = -1) -> bytes:
        if time.monotonic() > self.deadline:
            raise TimeoutError("the whole response took too long")
        chunk = self.response.read1(size)
        if len(self.head) < HEAD_BYTES:
            self.head += chunk
        return chunk


def _open(url: str, headers: dict[str, str]) -> HTTPResponse:
    opener = request.OpenerDirector()  # the default opener also opens files
    for handler in (
        *(request.ProxyHandler, request.HTTPHandler, request.HTTPSHandler),
        *(request.HTTPRedirectHandler, request.HTTPDefaultErrorHandler),
        *(request.HTTPErrorProcessor, request.UnknownHandler),
    ):
        opener.add_handler(handler())
    to_send = request.Request(url, headers=headers)  # noqa: S310 (http and https only, see above)
    response: HTTPResponse = opener.open(to_send, timeout=analytics_settings.PULL_TIMEOUT)
    return response


def _rows(response: HTTPResponse, deadline: float) -> Iterator[UploadEvent | BadRow]:
    reader, number = _Reader(response, deadline), 0
    with closing(response):
        try:
            for number, row in enumerate(
                ijson.items(reader, "uploads.item", use_float=True), start=1
            ):
                yield convert_row(row, number)
        except (OSError, HTTPException) as failure:
            raise SourceUnavailable(f"{_reason(failure)} after {number} rows") from failure
        except (ijson.JSONError, ValueError) as failure:
            raise SourceUnavailable(
                f"its response is invalid or truncated JSON after {number} rows"
            ) from failure
    if number == 0 and not _is_empty_list(reader.head):
        raise SourceUnavailable("its response has no list of uploads")


def _is_empty_list(body: bytes) -> bool:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("uploads") == []


def convert_row(row: Any, number: int) -> UploadEvent | BadRow:
    """Convert row ``number`` of the response to an upload event. Naive times are UTC."""
    if not isinstance(row, Mapping):
        return BadRow(number, "it is not an object")
    user_id = row.get("user_id")
    is_user_id = isinstance(user_id, (str, int)) and not isinstance(user_id, bool)
    required: dict[str, Any] = {
        "user_id": user_id if is_user_id else None,
        "upload_id": as_upload_id(row.get("upload_id")),
        "upload_time": _moment(row.get("upload_time")),
        "status": STATUSES.get(str(row.get("status")).strip().lower()),
    }
    for name, value in required.items():
        if value is None:
            return BadRow(number, f"its {name} is missing or invalid")
    return UploadEvent(
        user_id=_user_key(user_id),
        address=_address(user_id),
        upload_id=required["upload_id"],
        uploaded_at=required["upload_time"],
        status=required["status"],
        origin=Origin.IMAGE_SERVICE,
        diagnosis=as_text(row.get("diagnosis"), MAX_DIAGNOSIS_LENGTH),
        filename=as_text(row.get("original_filename"), MAX_FILENAME_LENGTH),
        confidence=as_confidence(row.get("confidence_score")),
    )


def _moment(value: Any) -> datetime | None:
    try:
        moment = parse_datetime(value)
        if moment is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=timezone.utc)
        if moment is None or not FIRST_MOMENT <= moment < END_OF_MOMENTS:
            return None
        return moment.astimezone(timezone.utc)
    except (ValueError, TypeError, OverflowError):
        return None


def _user_key(user_id: Any) -> Any:
    try:
        text = str(user_id)
        return _parse_user_id(text) if len(text) <= MAX_ADDRESS_LENGTH else None
    except ValueError:
        return None


def _address(user_id: Any) -> str:
    text = user_id if isinstance(user_id, str) else ""
    is_address = "@" in text and len(text) <= MAX_ADDRESS_LENGTH and is_storable(text)
    return text if is_address else ""


def _reason(failure: BaseException) -> str:
    if isinstance(failure, (InvalidURL, ValueError)):
        return f"{type(failure).__name__} for its URL"  # which may contain a password
    reason = getattr(failure, "reason", None) or failure
    return f"{type(failure).__name__}: {reason}"[:300]
