"""Text of a stranger as every database can keep it."""

from __future__ import annotations

import pytest

from myometrics_core.texts import storable_text


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("curl/8.0", "curl/8.0"),
        ("", ""),
        ("a\x00b\x00", "ab"),
        ("a\ud800b", "a?b"),
        ("ü\U0001f600", "ü\U0001f600"),
        ("\x00\x00abcdefghijk", "abcdefghij"),
    ],
)
def test_text_is_stored_without_what_no_database_keeps_and_cut(text: str, stored: str) -> None:
    assert storable_text(text, 10) == stored
    assert storable_text(stored, 10) == stored
    stored.encode()
