"""Export and erasure of personal data ("Data Export Endpoints", "DELETE /users/me/")."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import QuerySet

from ..conf.core_settings import core_settings
from ..db.transactions import atomic_write
from ..users.locking import lock_user_for_delete
from .tables import ExportTable


class PersonalDataSection(ABC):
    """One kind of record about users that a package or the site stores.

    ``name`` is the section's key in the export, ``order`` its position. ``many`` is true for a list
    of records, false for exactly one record.
    """

    name: str
    order: int = 100
    many: bool = True

    @abstractmethod
    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        """Yield the records about ``user`` only, with the API's field names.

        Values are JSON-serializable, datetimes aware. Must not hold all records in memory.
        """

    def export_table(self, user: AbstractBaseUser) -> ExportTable | None:
        """Return the records of :meth:`export` as columns of one query, if they are.

        With a table, PostgreSQL renders the section at a tenth of the cost. ``export`` remains the
        reference, and is used on other databases.
        """
        return None

    @abstractmethod
    def erase(self, user: AbstractBaseUser) -> None:
        """Delete or anonymize the records about ``user``.

        Called inside the erasure's transaction, before the user's row is deleted; rows that this
        cascade deletes need no handling. An exception rolls back the whole erasure.
        """


_sections: dict[str, PersonalDataSection] = {}


def register_personal_data(section: PersonalDataSection) -> None:
    """Register ``section`` for export and erasure. Call it in ``AppConfig.ready``.

    Raises ``ValueError`` for the name ``complete``, the last member of the export.
    """
    if section.name == "complete":
        raise ValueError("No section can be called 'complete': the export ends with that member.")
    _sections[section.name] = section


def personal_data_sections() -> list[PersonalDataSection]:
    """Return every registered section in export order."""
    return sorted(_sections.values(), key=lambda section: (section.order, section.name))


def erase_user(user: AbstractBaseUser) -> None:
    """Erase all data about ``user``, and the user, in one transaction.

    The user is deleted by ``user.delete()``, or erased by the setting ``ERASE_USER``. Raises
    ``ImproperlyConfigured`` if the row still exists after ``delete()``.
    """
    with atomic_write():
        lock_user_for_delete(user)
        for section in reversed(personal_data_sections()):
            section.erase(user)
        if core_settings.ERASE_USER is not None:
            core_settings.ERASE_USER(user)
            return
        key, using = user.pk, router.db_for_write(type(user), instance=user)
        user.delete()
        model = get_user_model()
        # A parent's row may outlive its child's. A manager may hide rows: use a plain QuerySet.
        for table in (model, *model._meta.get_parent_list()):
            if QuerySet(table, using=using).filter(pk=key).exists():
                raise ImproperlyConfigured(
                    f"{model._meta.label}.delete() leaves the user's row in "
                    f"{table._meta.db_table}, so the user is not erased. Name a function that "
                    'erases users in MYOMETRICS["ERASE_USER"].'
                )
