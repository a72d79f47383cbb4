"""What the installed packages hold about a person, and how they let go of it.

Specification: "Data Export Endpoints" and "DELETE /users/me/".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.db.models import QuerySet

from .export_tables import ExportTable
from .people import person_lock
from .settings import core_settings
from .transactions import atomic_write

__all__ = [
    "PersonalDataSection",
    "erase_person",
    "personal_data_sections",
    "register_personal_data",
]


class PersonalDataSection(ABC):
    """One kind of record about people that a package or a host keeps.

    ``name`` is the section's key in the export, ``order`` its place there. ``many`` says whether
    the section is a list of records or exactly one.
    """

    name: str
    order: int = 100
    many: bool = True

    @abstractmethod
    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """The records about ``user`` and nobody else, in the API's field names.

        Values are JSON-ready, datetimes aware. Must not hold all records in memory.
        """

    def export_table(self, user: Any) -> ExportTable | None:
        """The very records of :meth:`export` as columns of one query, where they are that.

        With a table, PostgreSQL renders the section at a tenth of the cost; ``export`` stays
        what defines it, and serves every other database.
        """
        return None

    @abstractmethod
    def erase(self, user: Any) -> None:
        """Remove or make anonymous what is kept about ``user``.

        Called inside the erasure's transaction, before the user's own row goes; what a cascade
        from that row removes may be left to it. An exception undoes the whole erasure.
        """


_sections: dict[str, PersonalDataSection] = {}


def register_personal_data(section: PersonalDataSection) -> None:
    """Add ``section`` to the export and to erasure. Call it from ``AppConfig.ready``.

    Raises ``ValueError`` for the name ``complete``: the export's last member.
    """
    if section.name == "complete":
        raise ValueError("No section can be called 'complete': the export ends with that member.")
    _sections[section.name] = section


def personal_data_sections() -> list[PersonalDataSection]:
    """Every registered section in the order of the export."""
    return sorted(_sections.values(), key=lambda section: (section.order, section.name))


def erase_person(user: Any) -> None:
    """Erase all that is kept about ``user``, and the user: all of it or, on any error, nothing.

    The user is deleted by ``user.delete()``, or erased by the host's ``ERASE_USER``. Raises
    ``ImproperlyConfigured`` where ``delete()`` returns and the row is still there.
    """
    with atomic_write():
        person_lock(user)
        for section in reversed(personal_data_sections()):
            section.erase(user)
        if core_settings.ERASE_USER is not None:
            core_settings.ERASE_USER(user)
        else:
            _delete(user)


def _delete(user: Any) -> None:
    key, using = user.pk, router.db_for_write(type(user), instance=user)
    user.delete()
    # No manager of the host's: it may hide rows. A parent's row may outlive that of a child.
    model = get_user_model()
    for table in (model, *model._meta.get_parent_list()):
        if QuerySet(table, using=using).filter(pk=key).exists():
            raise ImproperlyConfigured(
                f"{model._meta.label}.delete() leaves the user's row in {table._meta.db_table}, so "
                "the user is not erased. Name a function that erases users in "
                'MYOMETRICS["ERASE_USER"].'
            )
