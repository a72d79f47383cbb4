"""What stands for an e-mail address where it must not be kept."""

from __future__ import annotations

import pytest

from myometrics_core.pseudonyms import account_pseudonym


@pytest.mark.parametrize(
    ("spelling", "another"),
    [
        ("ada@clinic.example", " ADA@Clinic.example "),
        ("ada@clinic.example", "ａｄａ@clinic.example"),
        ("ada@müller.example", "ada@xn--mller-kva.example"),
        ("józef@müller.example", "JÓZEF@XN--MLLER-KVA.example"),
    ],
)
def test_an_address_has_one_pseudonym_in_every_spelling(spelling, another):
    assert account_pseudonym(spelling) == account_pseudonym(another)


@pytest.mark.parametrize("other", ["ada@clinic.test", "eda@clinic.example", "", "\ud800", "@"])
def test_another_address_has_another(other):
    assert account_pseudonym(other) != account_pseudonym("ada@clinic.example")


def test_another_site_has_others(settings):
    here = account_pseudonym("ada@clinic.example")
    settings.SECRET_KEY = "another site's"
    assert account_pseudonym("ada@clinic.example") != here
