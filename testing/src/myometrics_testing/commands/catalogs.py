"""``dev translations``: the messages of each package, and their translations.

Replaces ``makemessages`` and ``compilemessages``, which need the gettext programs. Catalogues are
``locale/<language>/LC_MESSAGES/django.po``, compiled beside them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path
from typing import Any

import django
from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

from myometrics_testing.commands.repository import package_folders

LANGUAGES = ("de",)
"""Target languages; the messages themselves are English."""

KEYWORDS = {
    "_": None,
    "gettext": None,
    "gettext_lazy": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
}
TEMPLATES = (".html", ".txt")
CHANGING = tuple(
    f'"{name}:'
    for name in (
        *("POT-Creation-Date", "PO-Revision-Date", "Last-Translator", "Report-Msgid-Bugs-To"),
        *("Language-Team", "Generated-By"),
    )
)
"""Header lines of a catalogue that change with every run, or contain nothing useful."""
UNDATED = datetime.fromtimestamp(0, timezone.utc)
"""Replaces the dates in a compiled catalogue's header."""


def main(arguments: Sequence[str]) -> int:
    """Bring the packages' translations up to date with the code, compile them, name what lacks."""
    argparse.ArgumentParser(prog="dev translations", description=main.__doc__).parse_args(arguments)
    if not settings.configured:  # templates are read by Django's own lexer
        settings.configure()
        django.setup()
    lacking = [line for source in package_sources().values() for line in _bring_up_to_date(source)]
    print("\n".join(lacking) or "Every message is translated.")
    return int(bool(lacking))


def package_sources() -> dict[str, Path]:
    """Return the source folder of each package by short name."""
    folders = package_folders().items()
    return {name: folder / "src" / f"myometrics_{name}" for name, folder in folders}


def extracted(source: Path) -> Catalog:
    """Return every translatable message of the Python files and templates in ``source``."""
    found = Catalog(charset="utf-8")
    for path in sorted(source.rglob("*")):
        if "migrations" not in path.parts and path.suffix in {".py", *TEMPLATES}:
            for message in _messages(path):
                found.add(message)
    return found


def catalog_path(source: Path, language: str) -> Path:
    """Return the path of the translations into ``language``."""
    return source / "locale" / language / "LC_MESSAGES" / "django.po"


def read_catalog(path: Path) -> Catalog:
    """Return the catalogue in ``path``; an empty one if the file does not exist."""
    language = path.parts[-3]
    if not path.exists():
        return Catalog(locale=language, charset="utf-8", fuzzy=False)
    with path.open("rb") as file:
        return read_po(file, locale=language, charset="utf-8")


def untranslated(catalog: Catalog) -> list[Message]:
    """Return the messages without a translation, or with a fuzzy one."""
    return [message for message in catalog if message.id and (_is_empty(message) or message.fuzzy)]


def compiled(catalog: Catalog) -> bytes:
    """Return the catalogue as a ``.mo`` file: the same bytes for the same texts."""
    catalog.creation_date = catalog.revision_date = UNDATED
    file = BytesIO()
    write_mo(file, catalog)
    return file.getvalue()


def _bring_up_to_date(source: Path) -> Iterator[str]:
    messages = extracted(source)
    for language in LANGUAGES:
        path = catalog_path(source, language)
        catalog = read_catalog(path)
        catalog.update(messages, no_fuzzy_matching=True, update_creation_date=False)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_as_text(catalog, source.name))
        path.with_suffix(".mo").write_bytes(compiled(read_catalog(path)))
        yield from (f"{source.name}, {language}: {text.id}" for text in untranslated(catalog))


def _messages(path: Path) -> Iterator[str | tuple[str, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix in TEMPLATES:  # not as Python: indentation would be significant
        text = "\n".join(line.strip() for line in templatize(text).splitlines())
    found: Iterable[Any] = extract_python(BytesIO(text.encode()), KEYWORDS, [], {})
    for _, function, arguments, _ in found:
        words = arguments if isinstance(arguments, tuple) else (arguments,)
        plural = function.startswith("ngettext")
        yield (str(words[0]), str(words[1])) if plural else str(words[0])


def _as_text(catalog: Catalog, package: str) -> bytes:
    """Return the file without the lines that change with every run."""
    catalog.header_comment = f"# Translations of {package.replace('_', '-')}."
    catalog.obsolete.clear()
    catalog.project, catalog.version, catalog.fuzzy = package, "", False
    file = BytesIO()
    write_po(file, catalog, sort_output=True, no_location=True, width=98)
    lines = file.getvalue().decode().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith(CHANGING)).encode()


def _is_empty(message: Message) -> bool:
    texts = message.string if isinstance(message.string, (list, tuple)) else [message.string]
    return not all(texts)
