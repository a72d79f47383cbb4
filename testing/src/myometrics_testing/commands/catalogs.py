"""``dev translations``: what each package says, and how that reads in other languages.

What ``makemessages`` and ``compilemessages`` do, without the gettext programs, which not every
machine has. Catalogues are ``locale/<language>/LC_MESSAGES/django.po``, compiled beside them.
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
"""Beside English, in which the messages are written."""

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
"""Lines of a catalogue's head that change with every run, or say nothing."""
UNDATED = datetime.fromtimestamp(0, timezone.utc)
"""Stands for the dates in a compiled catalogue's head."""


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
    """Source folder of each package by short name."""
    folders = package_folders().items()
    return {name: folder / "src" / f"myometrics_{name}" for name, folder in folders}


def extracted(source: Path) -> Catalog:
    """Every message that the Python files and templates in ``source`` mark as translatable."""
    found = Catalog(charset="utf-8")
    for path in sorted(source.rglob("*")):
        if "migrations" not in path.parts and path.suffix in {".py", *TEMPLATES}:
            for message in _messages(path):
                found.add(message)
    return found


def catalog_path(source: Path, language: str) -> Path:
    """Where the translations into ``language`` are."""
    return source / "locale" / language / "LC_MESSAGES" / "django.po"


def read_catalog(path: Path) -> Catalog:
    """The catalogue in ``path``; an empty one where there is none."""
    language = path.parts[-3]
    if not path.exists():
        return Catalog(locale=language, charset="utf-8", fuzzy=False)
    with path.open("rb") as file:
        return read_po(file, locale=language, charset="utf-8")


def untranslated(catalog: Catalog) -> list[Message]:
    """The messages that lack a text, or have one that nobody has confirmed."""
    return [message for message in catalog if message.id and (_is_empty(message) or message.fuzzy)]


def compiled(catalog: Catalog) -> bytes:
    """The catalogue as Django reads it (``.mo``): the same bytes for the same texts."""
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
    if path.suffix in TEMPLATES:  # as Python; indentation would have a meaning there
        text = "\n".join(line.strip() for line in templatize(text).splitlines())
    found: Iterable[Any] = extract_python(BytesIO(text.encode()), KEYWORDS, [], {})
    for _, function, arguments, _ in found:
        words = arguments if isinstance(arguments, tuple) else (arguments,)
        plural = function.startswith("ngettext")
        yield (str(words[0]), str(words[1])) if plural else str(words[0])


def _as_text(catalog: Catalog, package: str) -> bytes:
    """The file without what would change with every run."""
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
