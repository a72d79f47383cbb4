"""Pseudonyms of e-mail addresses."""

from __future__ import annotations

import pytest
from django.core.checks import run_checks

from myometrics_core.users import account_pseudonym, account_pseudonyms, keyed_hash


@pytest.mark.parametrize(
    ("spelling", "another"),
    [
        ("ada@clinic.example", " ADA@Clinic.example "),
        ("ada@clinic.example", "ａｄａ@clinic.example"),
        ("ada@müller.example", "ada@xn--mller-kva.example"),
        ("józef@müller.example", "JÓZEF@XN--MLLER-KVA.example"),
    ],
)
def test_spellings_of_an_address_share_a_pseudonym(spelling, another):
    assert account_pseudonym(spelling) == account_pseudonym(another)


@pytest.mark.parametrize("other", ["ada@clinic.test", "eda@clinic.example", "", "\ud800", "@"])
def test_pseudonyms_differ_by_address(other):
    assert account_pseudonym(other) != account_pseudonym("ada@clinic.example")


def test_pseudonyms_differ_by_site(settings):
    here = account_pseudonym("ada@clinic.example")
    settings.SECRET_KEY = "another site's"
    assert account_pseudonym("ada@clinic.example") != here


def test_pseudonyms_before_key_rotation_are_looked_up(settings):
    oldest = account_pseudonym("ada@clinic.example")
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "new" * 20
    newest = account_pseudonym("ada@clinic.example")
    assert account_pseudonyms("ada@clinic.example") == [newest, oldest]
    assert newest != oldest


def test_pseudonym_keys_are_independent_of_secret_key(settings):
    settings.MYOMETRICS = {"PSEUDONYM_KEYS": ["new" * 20, "old" * 20]}
    before = account_pseudonyms("ada@clinic.example")
    settings.SECRET_KEY = "another" * 10
    assert account_pseudonyms("ada@clinic.example") == before
    assert keyed_hash("x", secret="old" * 20) != keyed_hash("x")
    assert keyed_hash("x", secret="new" * 20) == keyed_hash("x")


@pytest.mark.parametrize(
    ("secret_key", "fallbacks", "pseudonym_keys", "found"),
    [
        ("x" * 32, ["y" * 32], None, set()),
        ("x" * 31, [], None, {"myometrics_core.W014"}),
        ("x" * 32, ["y" * 31], None, {"myometrics_core.W014"}),
        ("x" * 31, [], ["y" * 32], set()),
        ("x" * 32, [], ["y" * 32, "z" * 31], {"myometrics_core.W014"}),
        ("x" * 32, [], [], {"myometrics_core.E003"}),
        ("x" * 32, [], ["y" * 32, ""], {"myometrics_core.E003"}),
        ("x" * 32, [], ["y" * 32, 7], {"myometrics_core.E003"}),
        ("x" * 32, [], "y" * 32, {"myometrics_core.E003"}),
        ("x" * 32, [], [b"y" * 32], {"myometrics_core.E003"}),
        ("x" * 32, [], ["y" * 32 + "\udcff"], {"myometrics_core.E003"}),
        ("x" * 32, [], ("ü" * 16, "y" * 32), set()),
    ],
)
def test_pseudonym_keys_that_are_short_or_missing_are_reported(
    settings, secret_key, fallbacks, pseudonym_keys, found
):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = secret_key, fallbacks
    settings.MYOMETRICS = {"PSEUDONYM_KEYS": pseudonym_keys}
    ids = {message.id for message in run_checks() if message.id.startswith("myometrics_core.")}
    assert ids - {"myometrics_core.W010"} == found
