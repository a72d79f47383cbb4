"""Columns of the user: some are computed from others each time a row is written, in bulk too."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import FieldError
from django.db import models
from django.db.models import lookups, signals

from myometrics_core.email_addresses import canonical_email, fold_text
from myometrics_core.model_fields import PortableText

__all__ = [
    "AddedTextField",
    "CanonicalEmailField",
    "DerivedColumn",
    "StoredEmailField",
    "UserSearchField",
]


class AddedTextField(models.CharField):  # type: ignore[type-arg]
    """Text that may be empty, in a column that the version before doesn't know and so leaves NULL.

    NULL is read as the empty text, and forms give the empty text: nobody meets ``None``. Takes
    what ``CharField`` takes but ``null``, ``blank`` and ``default``.
    """

    def __init__(self, *names: Any, **options: Any) -> None:
        super().__init__(*names, **{**options, "null": True, "blank": True, "default": ""})

    def deconstruct(self) -> Any:
        """As for every field, without what the class stands for."""
        name, path, names, options = super().deconstruct()
        for implied in ("null", "blank", "default"):
            options.pop(implied, None)
        return name, path, names, options

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str:
        """The text; the empty one for NULL."""
        return value or ""

    def formfield(self, **options: Any) -> forms.Field | None:
        """A field of a form that gives the empty text where nothing is typed."""
        return super().formfield(**{"empty_value": "", **options})


class DerivedColumn(models.Field):  # type: ignore[type-arg]
    """A column that is computed from ``source_fields`` of its row whenever the row is written.

    :class:`~myometrics_auth.models.users.UserQuerySet` keeps it right in queries, too.
    """

    source_fields: ClassVar[tuple[str, ...]]

    def derive(self, instance: models.Model) -> str:
        """The value for ``instance`` as it is now."""
        raise NotImplementedError

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        """The value, also set on the instance."""
        value = self.derive(model_instance)
        setattr(model_instance, self.attname, value)
        return value

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = False
    ) -> None:
        """Compute the column for rows of fixtures, too, which are saved without ``pre_save``."""
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            signals.pre_save.connect(self._fixture_row_saved, sender=cls)

    def _fixture_row_saved(self, instance: models.Model, raw: bool, **kwargs: Any) -> None:
        if raw:
            self.pre_save(instance, add=False)


class StoredEmailField(PortableText, models.EmailField):  # type: ignore[type-arg]
    """An e-mail address as mail is sent to it: lower-case, plain where it folds to plain.

    Look-ups fold as well, so every spelling of an address finds it.
    """

    def get_prep_value(self, value: Any) -> Any:
        """The stored form of an address, for columns and look-ups."""
        value = super().get_prep_value(value)
        return stored_email(value) if isinstance(value, str) else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        """The address in its stored form, also set on the instance."""
        value = getattr(model_instance, self.attname) or ""
        if isinstance(value, str):
            value = stored_email(value)
            setattr(model_instance, self.attname, value)
        return value


class CanonicalEmailField(DerivedColumn, PortableText, models.CharField):  # type: ignore[type-arg]
    """The canonical form of the row's ``email``."""

    source_fields = ("email",)

    def derive(self, instance: models.Model) -> str:
        """The canonical form of the ``email`` as it is now."""
        return canonical_email(_text(instance, "email"))

    def get_prep_value(self, value: Any) -> Any:
        """The canonical form of an address, for look-ups."""
        value = super().get_prep_value(value)
        return canonical_email(value) if isinstance(value, str) else value


class UserSearchField(DerivedColumn, PortableText, models.TextField):  # type: ignore[type-arg]
    """What an administrator's search looks in: first name, last name and e-mail, folded."""

    source_fields = ("first_name", "last_name", "email")

    def derive(self, instance: models.Model) -> str:
        """The text of the row as it is now."""
        return fold_text(" ".join(_text(instance, name) for name in self.source_fields))


@StoredEmailField.register_lookup
class EmailIExact(lookups.IExact):
    """``email__iexact``, which Django does not prepare: folded as ``exact`` is."""

    prepare_rhs = True


def stored_email(address: str) -> str:
    """An address in the form in which it is stored."""
    folded = canonical_email(address)
    if folded.isascii():
        return folded
    lowered = address.strip().lower()
    # Lower case may end in a final sigma, which makes a domain ambiguous.
    return lowered if canonical_email(lowered) == folded else folded


def _text(instance: models.Model, name: str) -> str:
    value = getattr(instance, name) or ""
    if isinstance(value, str):
        return value
    raise FieldError(f"{name} must be text: other columns of the user are computed from it.")
