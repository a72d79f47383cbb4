"""Both languages are complete, and compiled from the text that is committed."""

from __future__ import annotations

import gettext
import re
from pathlib import Path

import pytest

import myometrics_notifications

PACKAGE = Path(myometrics_notifications.__file__).parent
MESSAGE = re.compile(r'^msgid "(.+)"\n(?:msgid_plural .*\n)?msgstr(?:\[0\])? "(.*)"$', re.M)
IN_TEMPLATE = re.compile(r'{% translate "(.+?)" %}')


def catalogue(language):
    folder = PACKAGE / "locale" / language / "LC_MESSAGES"
    texts = {
        before.replace('\\"', '"'): after.replace('\\"', '"')
        for before, after in MESSAGE.findall((folder / "django.po").read_text("utf-8"))
    }
    with (folder / "django.mo").open("rb") as file:
        return texts, gettext.GNUTranslations(file)


@pytest.mark.parametrize("language", ["en", "de"])
def test_every_message_is_translated_and_compiled(language):
    texts, compiled = catalogue(language)

    assert len(texts) > 50
    for before, after in texts.items():
        assert after, f"{before!r} has no translation into {language}"
        assert after in (compiled.gettext(before), compiled.ngettext(before, before, 1))


def test_both_languages_hold_the_same_messages():
    assert catalogue("en")[0].keys() == catalogue("de")[0].keys()


def test_german_is_not_english():
    same = {before for before, after in catalogue("de")[0].items() if before == after}

    assert same <= {"Format"}


def test_placeholders_survive_translation():
    for before, after in catalogue("de")[0].items():
        assert sorted(re.findall(r"%\(\w+\)s|%d", before)) == sorted(
            re.findall(r"%\(\w+\)s|%d", after)
        )


def test_every_sentence_of_the_templates_is_in_the_catalogue():
    texts, _ = catalogue("de")
    used = {
        sentence
        for template in PACKAGE.glob("templates/**/*.*")
        for sentence in IN_TEMPLATE.findall(template.read_text("utf-8"))
    }

    assert used
    assert used <= texts.keys()
