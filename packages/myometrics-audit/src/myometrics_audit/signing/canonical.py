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

from myometrics_core.texts import is_finite, is_storable
from myometrics_core.times import utc_text

DETAILS_MAX_BYTES = 64 * 1024
"""Maximum size of an entry's ``details`` as canonical JSON."""

# One encoder: json.dumps would create it again for each entry.
_encode = json.JSONEncoder(
    allow_nan=False, ensure_ascii=False, separators=(",", ":"), sort_keys=True
).encode


def canonical_json(value: Any) -> bytes:
    """Encode ``value`` as UTF-8 JSON: sorted keys, no spaces, integers without point or exponent.

    Raises ``ValueError`` for NaN, infinity, NUL and lone surrogates, which can't be stored, and
    ``TypeError`` for values that aren't JSON.
    """
    texts: list[str] = []
    canonical = _canonical(value, texts)
    # All texts at once: a call for each would cost as much as the encoding.
    if not is_storable("".join(texts)):
        raise ValueError("NUL and lone surrogates can't be stored")
    return _encode(canonical).encode()


def canonical_moment(moment: datetime) -> str:
    """Format an aware time in UTC with microseconds: ``2025-08-19T15:45:00.000000Z``."""
    return utc_text(moment, "microseconds")


def _canonical(value: Any, texts: list[str]) -> Any:
    """Return ``value`` with canonical numbers; add its texts to ``texts``."""
    if isinstance(value, str):
        texts.append(value)
        return value
    if isinstance(value, float):
        return _canonical_number(value)
    if isinstance(value, Mapping):
        return {_key(key, texts): _canonical(item, texts) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item, texts) for item in value]
    return value


def _key(key: Any, texts: list[str]) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys of a JSON object are text, not {type(key).__name__}")
    texts.append(key)
    return key


def _canonical_number(number: float) -> float | int:
    if not is_finite(number):
        raise ValueError("NaN and infinity can't be kept")
    if number.is_integer():
        # Via the decimal text, as the databases do: int(1e23) is 99999999999999991611392.
        return int(Decimal(repr(number)))
    return number
