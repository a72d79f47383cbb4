"""Fields of the user model. Derived columns are recomputed on every write, also in bulk."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import FieldError
from django.db import models
from django.db.models import lookups, signals

from myometrics_core.db import PortableText
from myometrics_core.users import canonical_email, fold_text

__all__ = [
    "AddedTextField",
    "CanonicalEmailField",
    "DerivedColumn",
    "StoredEmailField",
    "UserSearchField",
]


class AddedTextField(models.CharField):  # type: ignore[type-arg]
    """Text field for a newly added column, which the previous release leaves NULL.

    NULL is read as the empty string, and forms return the empty string. Accepts the options of
    ``CharField`` except ``null``, ``blank`` and ``default``.
    """

    def __init__(self, *names: Any, **options: Any) -> None:
        super().__init__(*names, **{**options, "null": True, "blank": True, "default": ""})

    def deconstruct(self) -> Any:
        name, path, names, options = super().deconstruct()
        for implied in ("null", "blank", "default"):
            options.pop(implied, None)
        return name, path, names, options

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str:
        return value or ""

    def formfield(self, **options: Any) -> forms.Field | None:
        return super().formfield(**{"empty_value": "", **options})


class DerivedColumn(models.Field):  # type: ignore[type-arg]
    """A column computed from ``source_fields`` of its row on every write.

    :class:`~myometrics_auth.models.users.UserQuerySet` also updates it in queries.
    """

    source_fields: ClassVar[tuple[str, ...]]

    def derive(self, instance: models.Model) -> str:
        raise NotImplementedError

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        value = self.derive(model_instance)
        setattr(model_instance, self.attname, value)
        return value

    def contribute_to_class(
        self, cls: type[models.Model], name: str, private_only: bool = False
    ) -> None:
        """Also compute the column for fixtures, which are saved without ``pre_save``."""
        super().contribute_to_class(cls, name, private_only)
        if not cls._meta.abstract:
            signals.pre_save.connect(self._fixture_row_saved, sender=cls)

    def _fixture_row_saved(self, instance: models.Model, raw: bool, **kwargs: Any) -> None:
        if raw:
            self.pre_save(instance, add=False)


class StoredEmailField(PortableText, models.EmailField):  # type: ignore[type-arg]
    """An e-mail address as used for delivery: lower case, and ASCII where it folds to ASCII.

    Lookups fold their value too, so every spelling of an address matches.
    """

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return stored_email(value) if isinstance(value, str) else value

    def pre_save(self, model_instance: models.Model, add: bool) -> Any:
        value = getattr(model_instance, self.attname) or ""
        if isinstance(value, str):
            value = stored_email(value)
            setattr(model_instance, self.attname, value)
        return value


class CanonicalEmailField(DerivedColumn, PortableText, models.CharField):  # type: ignore[type-arg]
    """The canonical form of the row's ``email``."""

    source_fields = ("email",)

    def derive(self, instance: models.Model) -> str:
        return canonical_email(_text(instance, "email"))

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        return canonical_email(value) if isinstance(value, str) else value


class UserSearchField(DerivedColumn, PortableText, models.TextField):  # type: ignore[type-arg]
    """Search text for administrators: first name, last name and e-mail, folded."""

    source_fields = ("first_name", "last_name", "email")

    def derive(self, instance: models.Model) -> str:
        return fold_text(" ".join(_text(instance, name) for name in self.source_fields))


@StoredEmailField.register_lookup
class EmailIExact(lookups.IExact):
    """``email__iexact``, folded as ``exact`` is; Django does not prepare its value."""

    prepare_rhs = True


@StoredEmailField.register_lookup
class EmailStartsWith(lookups.StartsWith):
    """``email__startswith``, folded as ``exact`` is: the admin site searches by it."""

    prepare_rhs = True


def stored_email(address: str) -> str:
    """Return an address in its stored form."""
    folded = canonical_email(address)
    if folded.isascii():
        return folded
    lowered = address.strip().lower()
    # Lower-casing may produce a final sigma, which makes a domain ambiguous.
    return lowered if canonical_email(lowered) == folded else folded


def _text(instance: models.Model, name: str) -> str:
    value = getattr(instance, name) or ""
    if isinstance(value, str):
        return value
    raise FieldError(f"{name} must be text: other columns of the user are computed from it.")
