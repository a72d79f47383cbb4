"""The query set of the append-only log: it inserts and reads, and refuses changes.

Refused methods raise :class:`ImmutableEntry`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

from django.db import models, transaction


class ImmutableEntry(TypeError):
    """Code tried to change or remove an audit entry."""


class AuditLogQuerySet(models.QuerySet[Any]):
    """Entries of the audit log."""

    def bulk_create(self, objs: Iterable[Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Insert new entries together with their leaves, in one transaction.

        Raises ``ImmutableEntry`` for ``ignore_conflicts`` and ``update_conflicts``.
        """
        if args[1:] or any(kwargs.get(name) for name in ("ignore_conflicts", "update_conflicts")):
            refuse("bulk_create of entries that may exist already", "insert new entries only")
        batch_size = args[0] if args else kwargs.get("batch_size")
        entries = list(objs)
        signed = [entry.sign() for entry in entries]
        with transaction.atomic(using=self.db, savepoint=False):
            created = super().bulk_create(entries, batch_size=batch_size)
            self.model.write_leaves(created, signed, using=self.db, batch_size=batch_size)
        return created

    def update(self, **kwargs: Any) -> int:
        refuse("update()", "record a new entry that corrects the old one")

    def bulk_update(self, *args: Any, **kwargs: Any) -> int:
        refuse("bulk_update()", "record a new entry that corrects the old one")

    def update_or_create(self, *args: Any, **kwargs: Any) -> tuple[Any, bool]:
        refuse("update_or_create()", "record a new entry")

    def delete(self) -> tuple[int, dict[str, int]]:
        refuse("delete()", "delete the user, or run 'manage.py audit_purge'")

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]
    update.alters_data = True  # type: ignore[attr-defined]


def refuse(attempt: str, instead: str) -> NoReturn:
    """Raise ``ImmutableEntry`` with the alternative ``instead``."""
    raise ImmutableEntry(f"Audit entries can't be changed: {attempt} is refused; {instead}.")
