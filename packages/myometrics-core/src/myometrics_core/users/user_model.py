"""Access to users, independent of the site's user model."""

from __future__ import annotations

from typing import Any, Protocol, TypeGuard

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import connection, models

from ..conf.core_settings import core_settings
from ..texts import is_storable


class UserLike(Protocol):
    """The user of a request: a user of the site, an anonymous one, or a principal without a row."""

    @property
    def pk(self) -> Any: ...

    @property
    def is_active(self) -> bool: ...

    @property
    def is_authenticated(self) -> bool: ...


def parse_user_id(text: str) -> Any:
    """Convert a user id from a path or query to the primary key's native type.

    Raises ``ValueError`` for text that can't be a user's key: for numeric keys text that is not a
    number in canonical form (not ``" 7"``, ``"+7"``, ``"07"``, ``"1_0"``) or is out of the column's
    range; an invalid UUID; NUL.
    """
    key = _key_field()
    text = str(text)
    if len(text) > 255 or not (is_storable(text) and text.isascii()):
        raise ValueError("not a user id")
    try:
        value = key.to_python(text)
        key.run_validators(value)
    except ValidationError as error:
        raise ValueError("not a user id") from error
    if isinstance(value, int):
        low, high = connection.ops.integer_field_range(key.get_internal_type())
        # Django 4.2 has no bounds for SQLite's integers; the driver's are 64 bits.
        low, high = -(2**63) if low is None else low, 2**63 - 1 if high is None else high
        if str(value) != text or not low <= value <= high:
            raise ValueError("not a user id")
    if value is None:
        raise ValueError("not a user id")
    return value


def user_id_json(key: Any) -> int | str | None:
    """Return a user's primary key for JSON: an integer unchanged, anything else as a string."""
    return key if key is None or isinstance(key, int) else str(key)


def user_id_schema() -> dict[str, Any]:
    """Return the OpenAPI schema of a user's primary key in the form of :func:`user_id_json`."""
    key = _key_field()
    if isinstance(key, models.IntegerField):
        return {"type": "integer"}
    if isinstance(key, models.UUIDField):
        return {"type": "string", "format": "uuid"}
    return {"type": "string"}


def has_user_row(user: UserLike | None) -> TypeGuard[AbstractBaseUser]:
    """Return whether ``user`` is an instance of the user model with a primary key; runs no query.

    False for anonymous users and for principals without a database row, such as simplejwt's
    ``TokenUser`` or a service account of the site.
    """
    return isinstance(user, get_user_model()) and user.pk is not None


def is_administrator(user: UserLike | None) -> bool:
    """Return the result of ``IS_ADMINISTRATOR`` for an active user with a row; else false."""
    if not (has_user_row(user) and user.is_active):
        return False
    return bool(core_settings.IS_ADMINISTRATOR(user))


def administrator_by_role_or_staff(user: AbstractBaseUser) -> bool:
    """Return the default rule: role ``admin`` if users have roles, else Django's staff flag."""
    if hasattr(user, "role"):
        return bool(user.role == "admin")
    return bool(getattr(user, "is_staff", False))


def site_language(user: AbstractBaseUser) -> str:
    """Return the site's ``LANGUAGE_CODE``, the default language of mails."""
    return settings.LANGUAGE_CODE


def site_time_zone(user: AbstractBaseUser) -> str:
    """Return the site's ``TIME_ZONE``, the default time zone in mails."""
    return settings.TIME_ZONE


def _key_field() -> Any:
    key: Any = get_user_model()._meta.pk
    while getattr(key, "target_field", None) is not None:
        key = key.target_field
    return key
