"""Package settings: declared once, read at each access, validated by Django's system checks.

A package declares its settings as attributes of a :class:`SettingsGroup`; a site sets them in one
dictionary. Nothing is copied at import, so ``override_settings`` works everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from django.conf import settings as django_settings
from django.core import checks
from django.utils.module_loading import import_string

from .redaction import redact
from .site_checks import register_check

DOTTED_PATH: Final = "dotted path"
"""Kind of a setting whose value is a dotted path (or the object itself)."""


@dataclass(frozen=True)
class Setting:
    """One key of a package's settings dictionary.

    ``kind`` is a type, a tuple of types or :data:`DOTTED_PATH`; ``None`` is accepted if the default
    is ``None``. ``validate`` takes the value and raises ``ValueError`` with a readable message if
    it is invalid. Reading the attribute returns the site's value or the default; a dotted path is
    imported.
    """

    kind: Any
    default: Any = None
    description: str = ""
    choices: tuple[Any, ...] | None = None
    validate: Callable[[Any], object] | None = None
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)

    def __get__(self, group: SettingsGroup | None, owner: type) -> Any:
        if group is None:
            return self
        value = group.values().get(self.name, self.default)
        if self.kind == DOTTED_PATH and isinstance(value, str):
            return import_string(value)
        return value

    def problem(self, value: Any) -> str | None:
        """Return why ``value`` is invalid, as the end of a sentence, or ``None`` if it is valid."""
        if value is None and self.default is None:
            return None
        if self.kind == DOTTED_PATH:
            try:
                if isinstance(value, str):
                    import_string(value)
            except Exception as error:
                return f"can't be imported ({redact(str(error))})"
            return None
        kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        is_unwanted_bool = isinstance(value, bool) and bool not in kinds
        if is_unwanted_bool or not isinstance(value, kinds):
            return f"must be {self.kind_name}, not {type(value).__name__}"
        if self.choices is not None and value not in self.choices:
            return "must be one of " + ", ".join(repr(choice) for choice in self.choices)
        try:
            if self.validate is not None:
                self.validate(value)
        except ValueError as error:
            return redact(str(error))
        except Exception as error:
            return redact(f"can't be used ({type(error).__name__}: {error})")
        return None

    @property
    def kind_name(self) -> str:
        """The kind in words, as shown in the settings tables of the documentation."""
        kinds = self.kind if isinstance(self.kind, tuple) else (self.kind,)
        return " or ".join(kind if isinstance(kind, str) else kind.__name__ for kind in kinds)


class SettingsGroup:
    """The settings of one package: subclass, set ``name`` and ``app``, declare settings.

    ``renamed`` maps keys of earlier versions to their new names, for the check of unknown keys.
    """

    name: ClassVar[str]
    app: ClassVar[str]
    renamed: ClassVar[Mapping[str, str]] = {}

    def values(self) -> Mapping[str, Any]:
        """Return the site's current dictionary; empty if it is missing or not a dictionary."""
        values = getattr(django_settings, self.name, None)
        # `dict` first: the check of the abstract class is slower than the rest of the lookup.
        return values if isinstance(values, (dict, Mapping)) else {}

    def declared(self) -> Iterator[Setting]:
        """Yield every declared setting in declaration order, base classes first."""
        for owner in reversed(type(self).__mro__):
            for attribute in vars(owner).values():
                if isinstance(attribute, Setting):
                    yield attribute

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """System check: the setting is a dictionary with known keys and valid values."""
        raw = getattr(django_settings, self.name, {})
        if not isinstance(raw, Mapping):
            return [self._error("E001", f"{self.name} must be a dictionary.", None)]
        found: list[checks.CheckMessage] = []
        known = {setting.name: setting for setting in self.declared()}
        for key in raw:
            if key not in known:
                message = f"{self.name} has an unknown key {key!r}."
                found.append(self._error("E002", message, self._hint(str(key), list(known))))
        for name, setting in known.items():
            problem = setting.problem(raw[name]) if name in raw else None
            if problem:
                message = f"{self.name}[{name!r}] {problem}."
                found.append(self._error("E003", message, setting.description))
        return found

    def _hint(self, key: str, known: list[str]) -> str:
        if key in self.renamed:
            return f"It is now called {self.renamed[key]!r}."
        near = difflib.get_close_matches(key, known, n=1)
        return f"Did you mean {near[0]!r}?" if near else f"Known keys: {', '.join(known)}."

    def _error(self, number: str, message: str, hint: str | None) -> checks.Error:
        return checks.Error(message, hint=hint, id=f"{self.app}.{number}")


_groups: dict[str, SettingsGroup] = {}


def register_settings(group: SettingsGroup) -> None:
    """Register ``group`` for ``manage.py check`` and the documentation's settings tables."""
    if group.name not in _groups:
        register_check(group.check, app=group.app)
    _groups[group.name] = group


def registered_settings() -> list[SettingsGroup]:
    """Return every registered group, in order of registration."""
    return list(_groups.values())


def positive(value: float | timedelta) -> None:
    """For ``validate``: raises ``ValueError`` unless the number or timedelta is greater than 0."""
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if number <= 0:
        raise ValueError("must be greater than 0")


def http_url(value: str) -> None:
    """For ``validate``: raises ``ValueError`` unless the text is an HTTP URL or empty."""
    parts = urlsplit(value)
    if value and (parts.scheme not in {"http", "https"} or not parts.netloc):
        raise ValueError("must be a URL such as 'http://localhost:8000'")
