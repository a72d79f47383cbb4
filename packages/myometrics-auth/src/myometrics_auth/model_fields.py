"""Columns of the user: some are computed from others each time a row is written, in bulk too."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db import models

from myometrics_core.email_addresses import canonical_email, fold_text

__all__ = ["AddedTextField", "CanonicalEmailField", "StoredEmailField", "UserSearchField"]


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


class StoredEmailField(models.EmailField):  # type: ignore[type-arg]
    """An e-mail address as mail is sent to it: lower-case, plain where it folds to plain."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        """The address in its stored form, also set on the instance."""
        typed = getattr(model_instance, self.attname) or ""
        folded = canonical_email(typed)
        stored = folded if folded.isascii() else typed.strip().lower()
        setattr(model_instance, self.attname, stored)
        return stored


class CanonicalEmailField(models.CharField):  # type: ignore[type-arg]
    """The canonical form of the row's ``email``."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        """The form of the ``email`` as it is now, also set on the instance."""
        canonical = canonical_email(getattr(model_instance, "email", "") or "")
        setattr(model_instance, self.attname, canonical)
        return canonical


class UserSearchField(models.TextField):  # type: ignore[type-arg]
    """What an administrator's search looks in: first name, last name and e-mail, folded."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        """The text of the row as it is now, also set on the instance."""
        parts = (getattr(model_instance, name) for name in ("first_name", "last_name", "email"))
        text = fold_text(" ".join(part or "" for part in parts))
        setattr(model_instance, self.attname, text)
        return text
