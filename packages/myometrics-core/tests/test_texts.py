"""Text and numbers that every database can store."""

import pytest

from myometrics_core.texts import encodable_text, is_finite, is_storable, storable_text


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
def test_storable_text_is_sanitized_and_truncated(text, stored):
    assert storable_text(text, 10) == stored
    assert storable_text(stored, 10) == stored
    assert is_storable(stored)


@pytest.mark.parametrize("text", ["a\x00", "\ud800", "a\ud83d\x00"])
def test_nul_and_lone_surrogates_are_not_storable(text):
    assert not is_storable(text)
    encodable_text(text).encode()


@pytest.mark.parametrize("number", [0, -1.5, 10**308, True])
def test_double_is_finite(number):
    assert is_finite(number)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 10**309])
def test_number_out_of_range_is_not_finite(number):
    assert not is_finite(number)
