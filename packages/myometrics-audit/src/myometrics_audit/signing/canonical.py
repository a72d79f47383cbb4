"""Canonical encoding: the same bytes for the same facts on every database and Python version.

PostgreSQL's ``jsonb`` returns ``1e+22`` as an integer and ``-0.0`` as ``0.0``; SQLite returns both
unchanged. Canonical JSON encodes both results as the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from myometrics_core.http import canonical_address
from myometrics_core.texts import is_finite, is_storable
from myometrics_core.times import utc_text

__all__ = ["DETAILS_MAX_BYTES", "canonical_address", "canonical_json", "canonical_moment"]

DETAILS_MAX_BYTES = 64 * 1024
"""Maximum size of an entry's ``details`` as canonical JSON."""


def canonical_json(value: Any) -> bytes:
    """Encode ``value`` as UTF-8 JSON: sorted keys, no spaces, integers without point or exponent.

    Raises ``ValueError`` for NaN, infinity, NUL and lone surrogates, which can't be stored, and
    ``TypeError`` for values that aren't JSON.
    """
    text = json.dumps(
        _canonical(value),
        allow_nan=False,
        ensure_ascii=False,
        separators=(",", ":"),
        sort_keys=True,
    )
    return text.encode()


def canonical_moment(moment: datetime) -> str:
    """Format an aware time in UTC with microseconds: ``2025-08-19T15:45:00.000000Z``."""
    return utc_text(moment, "microseconds")


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return _canonical_text(value)
    if isinstance(value, float):
        return _canonical_number(value)
    if isinstance(value, Mapping):
        return {_canonical_key(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    return value


def _canonical_key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys of a JSON object are text, not {type(key).__name__}")
    return _canonical_text(key)


def _canonical_text(text: str) -> str:
    if not is_storable(text):
        raise ValueError("NUL and lone surrogates can't be stored")
    return text


def _canonical_number(number: float) -> float | int:
    if not is_finite(number):
        raise ValueError("NaN and infinity can't be kept")
    if number.is_integer():
        # Via the decimal text, as the databases do: int(1e23) is 99999999999999991611392.
        return int(Decimal(repr(number)))
    return number
