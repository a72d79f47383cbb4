"""All messages of a package have a German translation, in the wheel, too."""

from __future__ import annotations

import re
from gettext import GNUTranslations
from zipfile import ZipFile

import pytest
from babel.messages.catalog import Catalog

from myometrics_testing.commands.catalogs import (
    LANGUAGES,
    catalog_path,
    extracted,
    package_sources,
    read_catalog,
    untranslated,
)

PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[sd]|\{\w+\}")
EACH = pytest.mark.parametrize(
    ("source", "language"),
    [(source, language) for source in package_sources().values() for language in LANGUAGES],
    ids=lambda value: getattr(value, "name", value),
)


def texts(message):
    return list(message.string) if isinstance(message.string, tuple) else [message.string]


@EACH
def test_catalogue_has_exactly_the_messages_of_code_and_templates(source, language):
    said = {message.id for message in extracted(source) if message.id}
    listed = {message.id for message in read_catalog(catalog_path(source, language)) if message.id}
    assert said
    assert listed == said, "python3 dev translations brings the catalogue up to date"


@EACH
def test_every_message_is_translated(source, language):
    assert untranslated(read_catalog(catalog_path(source, language))) == []


@EACH
def test_placeholders_survive_translation(source, language):
    for message in read_catalog(catalog_path(source, language)):
        originals = [message.id] if isinstance(message.id, str) else list(message.id)
        for before, after in zip(originals, texts(message), strict=True):
            if before:
                assert sorted(PLACEHOLDER.findall(before)) == sorted(PLACEHOLDER.findall(after))


@EACH
def test_compiled_catalogue_matches_source(source, language):
    path = catalog_path(source, language)
    with path.with_suffix(".mo").open("rb") as file:
        spoken = GNUTranslations(file)
    for message in read_catalog(path):
        if isinstance(message.id, tuple):
            assert texts(message) == [spoken.ngettext(*message.id, count) for count in (1, 2)]
        elif message.id:
            assert texts(message) == [spoken.gettext(message.id)]


@EACH
def test_wheel_includes_translations(source, language, wheels):
    wheel = next(wheels.glob(f"{source.name}-*.whl"))
    name = f"{source.name}/locale/{language}/LC_MESSAGES/django.mo"
    assert name in ZipFile(wheel).namelist()


def test_untranslated_message_is_found():
    catalog = Catalog(locale="de")
    catalog.add("Sign in", "Anmelden")
    catalog.add("Sign out")
    catalog.add(("%d day", "%d days"), ("%d Tag", ""))
    assert [message.id for message in untranslated(catalog)] == [
        "Sign out",
        ("%d day", "%d days"),
    ]
