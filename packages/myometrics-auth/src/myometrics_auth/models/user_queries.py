"""QuerySet of users that keeps derived columns consistent."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from django.core.exceptions import FieldError
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Cast
from django.db.models.lookups import Exact

from myometrics_auth.model_fields import DerivedColumn
from myometrics_core.db import atomic_write

__all__ = ["UserQuerySet", "with_derived"]

_ADMIN = "admin"  # value of Role.ADMIN, whose module imports this one
_BATCH = 500


class UserQuerySet(models.QuerySet[Any]):
    """QuerySet of users. All writes also update the derived columns and the role's flags."""

    def update(self, **kwargs: Any) -> int:
        """Extend Django's ``update``: also write the derived columns.

        A changed role clears ``is_staff`` and ``is_superuser``; ``admin`` sets ``is_staff``. Raises
        ``FieldError`` if the source of a derived column is an expression.
        """
        flags = self._flags_of_role(kwargs)
        derived = [field for field in _derived_from(self.model, kwargs) if field.name not in kwargs]
        if not derived:
            return super().update(**{**flags, **kwargs})
        for name in {name for field in derived for name in field.source_fields} & kwargs.keys():
            if hasattr(kwargs[name], "resolve_expression"):
                raise FieldError(
                    f"{name} can't be updated by an expression: "
                    f"{', '.join(field.name for field in derived)} must follow. Save each user."
                )
        return self._update_derived(derived, {**flags, **kwargs})

    def bulk_update(
        self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None
    ) -> int:
        """Extend Django's ``bulk_update``: also write columns derived from ``fields``."""
        users, names = list(objs), list(fields)
        for field in _derived_from(self.model, names):
            for user in users:
                field.pre_save(user, False)
        written = super().bulk_update(users, with_derived(self.model, names), batch_size)
        if "role" in names:
            rows = self._all_rows().filter(pk__in=[user.pk for user in users])
            flags = {pk: both for pk, *both in rows.values_list("pk", "is_staff", "is_superuser")}
            for user in users:
                if user.pk in flags:
                    user.is_staff, user.is_superuser = flags[user.pk]
        return written

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        """Extend Django's ``bulk_create``, including updates of existing rows.

        Raises ``FieldError`` for ``role`` in ``update_fields``.
        """
        users, changed = list(objs), list(update_fields or ())
        if "role" in changed:
            raise FieldError("role can't be updated on a conflict. Save each user.")
        options = (batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)
        derived = _derived_from(self.model, changed)
        if not derived:
            return super().bulk_create(users, *options)
        with atomic_write(self.db):
            made = super().bulk_create(users, *options)
            for batch in _batches(users):
                matches = Q()
                for user in batch:
                    matches |= Q(
                        **{name: getattr(user, name) for name in unique_fields or ("email",)}
                    )
                self._derive_again(derived, matches)
        return made

    def _flags_of_role(self, values: dict[str, Any]) -> dict[str, Any]:
        if "role" not in values:
            return {}
        role, field = values["role"], self.model._meta.get_field("role")
        if not hasattr(role, "resolve_expression"):
            role = Value(role, output_field=field)
        is_same = Exact(F("role"), role)
        is_admin = Exact(Cast(role, models.TextField()), Value(_ADMIN))
        return {
            flag: Case(
                When(is_same, then=F(flag)),
                When(is_admin, then=Value(True) if flag == "is_staff" else F(flag)),
                default=Value(False),
                output_field=models.BooleanField(),
            )
            for flag in ("is_staff", "is_superuser")
        }

    def _update_derived(self, derived: Sequence[Any], values: dict[str, Any]) -> int:
        # Folding happens in Python, so the rows have to be loaded.
        self._for_write = True
        written = 0
        with atomic_write(self.db):
            for batch in _batches(list(self.values_list("pk", flat=True))):
                written += models.QuerySet.update(self.filter(pk__in=batch), **values)
                self._derive_again(derived, Q(pk__in=batch))
        return written

    def _derive_again(self, derived: Sequence[Any], which: Q) -> None:
        users = list(self._all_rows().filter(which))
        for user in users:
            for field in derived:
                field.pre_save(user, False)
        if users:
            self._all_rows().bulk_update(users, [field.name for field in derived])

    def _all_rows(self) -> models.QuerySet[Any]:
        return models.QuerySet(self.model, using=self.db)


def with_derived(model: type[models.Model], names: Iterable[str]) -> list[str]:
    """Return ``names`` plus the columns derived from them."""
    given = list(names)
    derived = (field.name for field in _derived_from(model, given))
    return [*given, *(name for name in derived if name not in given)]


def _derived_from(model: type[models.Model], names: Collection[str]) -> list[Any]:
    return [
        field
        for field in model._meta.concrete_fields
        if isinstance(field, DerivedColumn) and set(field.source_fields) & set(names)
    ]


def _batches(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]
