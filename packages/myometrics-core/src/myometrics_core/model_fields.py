"""Model fields whose values ``dumpdata`` and ``loaddata`` keep exactly, in every format.

Django's JSON cuts times to milliseconds. Its XML refuses control characters, strips texts and
changes their line ends. The columns are Django's own, and migrations name Django's own fields.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import signals

__all__ = ["PortableCharField", "PortableDateTimeField", "PortableText", "PortableTextField"]

_ESCAPED = "\\json "
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_NOT_IN_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PortableText(models.Field):  # type: ignore[type-arg]
    """Mixin for text fields: serializers get a text that XML can't keep as ``\\json "…"``.

    It is read back when ``loaddata`` saves the row, before the row's other columns are derived.
    Forms show the escaped form as well and read it back.
    """

    def value_from_object(self, obj: models.Model) -> Any:
        """Return the text for serializers and forms, escaped if need be."""
        value = super().value_from_object(obj)
        return _escape(value) if isinstance(value, str) else value

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        """Set what a form holds."""
        super().save_form_data(instance, _unescape(data))

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = False
    ) -> None:
        """Listen for rows of fixtures."""
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            signals.pre_save.connect(self._unescape_fixture_row, sender=cls)

    def _unescape_fixture_row(self, instance: models.Model, raw: bool, **kwargs: Any) -> None:
        if raw:
            setattr(instance, self.attname, _unescape(getattr(instance, self.attname)))


class _DjangoColumn(models.Field):  # type: ignore[type-arg]
    """Mixin for fields that migrations see as the Django field that ``column_class`` names."""

    column_class: type[models.Field[Any, Any]]

    def deconstruct(self) -> Any:
        """Return what Django's own field would, so that no migration names this class."""
        name, _, names, options = super().deconstruct()
        return name, f"django.db.models.{self.column_class.__name__}", names, options


class PortableCharField(_DjangoColumn, PortableText, models.CharField):  # type: ignore[type-arg]
    """A ``CharField`` for any text that the database can keep."""

    column_class = models.CharField


class PortableTextField(_DjangoColumn, PortableText, models.TextField):  # type: ignore[type-arg]
    """A ``TextField`` for any text that the database can keep."""

    column_class = models.TextField


class PortableDateTimeField(_DjangoColumn, models.DateTimeField):  # type: ignore[type-arg]
    """A ``DateTimeField`` that serializers get as text with microseconds.

    Not for columns that forms edit: forms would get the text, too.
    """

    column_class = models.DateTimeField

    def value_from_object(self, obj: models.Model) -> Any:
        """Return the time as ISO 8601 text with six digits of a second."""
        value = super().value_from_object(obj)
        if isinstance(value, datetime):
            return value.isoformat(timespec="microseconds")
        return value

    def value_to_string(self, obj: models.Model) -> str:
        """Return the same for XML."""
        return self.value_from_object(obj) or ""


def _escape(text: str) -> str:
    is_kept = text == text.strip() and not _NOT_IN_XML.search(text)
    return text if is_kept and not text.startswith(_ESCAPED) else _ESCAPED + json.dumps(text)


def _unescape(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_ESCAPED):
        return value
    try:
        text = json.loads(value[len(_ESCAPED) :])
    except ValueError:
        return value
    return text if isinstance(text, str) and not _UNSTORABLE.search(text) else value
