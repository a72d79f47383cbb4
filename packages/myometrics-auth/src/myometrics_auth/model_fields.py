"""Columns that are computed from others each time a row is written, in bulk too."""

from __future__ import annotations

from django.db import models

from myometrics_core.email_addresses import canonical_email, fold_text

__all__ = ["CanonicalEmailField", "StoredEmailField", "UserSearchField"]


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
