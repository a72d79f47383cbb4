"""Optional filters of analytics, an extension of the specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, QuerySet

from .conf import analytics_settings

__all__ = ["Filters"]


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Filters by user and by upload; ``None`` means no filter.

    ``clinic`` and ``role`` are values of the user fields ``CLINIC_FIELD`` and ``ROLE_FIELD``.
    """

    clinic: str | None = None
    role: str | None = None
    diagnosis: str | None = None

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.clinic, self.role, self.diagnosis))

    @property
    def selects_users(self) -> bool:
        """Whether ``clinic`` or ``role`` is set."""
        return self.clinic is not None or self.role is not None

    def users(self) -> QuerySet[Any]:
        """Return the users whose uploads are counted."""
        users = get_user_model()._base_manager.order_by()
        if self.clinic is not None:
            users = users.filter(**{analytics_settings.CLINIC_FIELD: self.clinic})
        if self.role is not None:
            users = users.filter(**{analytics_settings.ROLE_FIELD: self.role})
        return users


def user_field(name: str) -> Field[Any, Any] | None:
    """Return the user model's field of that name, or ``None``."""
    try:
        field = get_user_model()._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return field if isinstance(field, Field) else None
