"""Model fields whose values survive ``dumpdata`` and ``loaddata`` unchanged, in every format.

Django's JSON serializer truncates times to milliseconds. Its XML serializer rejects control
characters, strips text and changes line endings. The columns and the migrations are those of
Django's own fields.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import signals

from ..texts import is_storable

_ESCAPED = "\\json "
_NOT_IN_XML = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PortableText(models.Field):  # type: ignore[type-arg]
    """Mixin for text fields: text that XML can't represent is serialized as ``\\json "…"``.

    It is decoded when ``loaddata`` saves the row, before derived columns are computed. Forms show
    the escaped form as well, and decode it.
    """

    def value_from_object(self, obj: models.Model) -> Any:
        value = super().value_from_object(obj)
        if not isinstance(value, str):
            return value
        is_kept = value == value.strip() and not _NOT_IN_XML.search(value)
        return value if is_kept and not value.startswith(_ESCAPED) else _ESCAPED + json.dumps(value)

    def save_form_data(self, instance: models.Model, data: Any) -> None:
        super().save_form_data(instance, _unescape(data))

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = False
    ) -> None:
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            signals.pre_save.connect(self._unescape_fixture_row, sender=cls)

    def _unescape_fixture_row(self, instance: models.Model, raw: bool, **kwargs: Any) -> None:
        if raw:
            setattr(instance, self.attname, _unescape(getattr(instance, self.attname)))


class _DjangoColumn(models.Field):  # type: ignore[type-arg]
    """Mixin for fields that migrations record as the Django field ``column_class``."""

    column_class: type[models.Field[Any, Any]]

    def deconstruct(self) -> Any:
        """Return the path of Django's field, so that no migration refers to this class."""
        name, _, names, options = super().deconstruct()
        return name, f"django.db.models.{self.column_class.__name__}", names, options


class PortableCharField(_DjangoColumn, PortableText, models.CharField):  # type: ignore[type-arg]
    """A ``CharField`` for any text that the database can store."""

    column_class = models.CharField


class PortableTextField(_DjangoColumn, PortableText, models.TextField):  # type: ignore[type-arg]
    """A ``TextField`` for any text that the database can store."""

    column_class = models.TextField


class PortableDateTimeField(_DjangoColumn, models.DateTimeField):  # type: ignore[type-arg]
    """A ``DateTimeField`` that is serialized as text with microseconds.

    Not for columns that forms edit: forms would receive the text, too.
    """

    column_class = models.DateTimeField

    def value_from_object(self, obj: models.Model) -> Any:
        value = super().value_from_object(obj)
        is_time = isinstance(value, datetime)
        return value.isoformat(timespec="microseconds") if is_time else value

    def value_to_string(self, obj: models.Model) -> str:
        return self.value_from_object(obj) or ""


def _unescape(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(_ESCAPED):
        return value
    try:
        text = json.loads(value[len(_ESCAPED) :])
    except ValueError:
        return value
    return text if isinstance(text, str) and is_storable(text) else value
