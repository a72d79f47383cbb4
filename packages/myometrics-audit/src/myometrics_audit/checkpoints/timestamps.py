"""RFC 3161 time-stamps of checkpoints (extra ``timestamps``): an authority confirms their time."""

from __future__ import annotations

import hashlib
import logging

from ..conf import audit_settings
from .http import REQUEST_FAILURES, post
from .models import Checkpoint

logger = logging.getLogger("myometrics.audit.checkpoint")

GRANTED = (0, 1)
"""PKIStatus: granted, and granted with modifications."""


def request_timestamp(checkpoint: Checkpoint) -> None:
    """Set the time-stamp of a checkpoint's note, if ``TIMESTAMP_URL`` is set.

    A failure is logged: the checkpoint is then published without one.
    """
    url = audit_settings.TIMESTAMP_URL
    if not url or checkpoint.timestamp is not None:
        return
    try:
        checkpoint.timestamp = _response(url, checkpoint.note.encode())
    except REQUEST_FAILURES as error:
        logger.warning("%s has no time-stamp: %s", checkpoint, error)


def _response(url: str, data: bytes) -> bytes:
    from rfc3161_client import (  # noqa: PLC0415 (of an extra)
        HashAlgorithm,
        TimestampRequestBuilder,
        decode_timestamp_response,
    )

    builder = TimestampRequestBuilder(data=data, hash_algorithm=HashAlgorithm.SHA256)
    request = builder.build()
    status, answer = post(url, request.as_bytes(), "application/timestamp-query")
    if status != 200:
        raise ValueError(f"the authority responded with {status}")
    response = decode_timestamp_response(answer)
    if response.status not in GRANTED:
        raise ValueError(f"the authority refused (status {response.status})")
    info = response.tst_info
    if info.message_imprint.message != hashlib.sha256(data).digest() or info.nonce != request.nonce:
        raise ValueError("the authority stamped something else")
    return answer
