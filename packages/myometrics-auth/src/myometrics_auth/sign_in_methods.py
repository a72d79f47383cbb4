"""Ways to sign in other than by password, which opt-in apps register."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime

from .models import User


class SignInMethod(ABC):
    """A kind of credential that signs users in by itself."""

    name: str

    @abstractmethod
    def count(self, user: User) -> int:
        """Return how many credentials of this kind ``user`` has."""

    def remove(self, user: User, since: datetime | None) -> None:  # noqa: B027 (optional)
        """Delete those of ``user``; with ``since`` only those from then or later.

        Not needed for a registered second factor, which is removed as such.
        """


_methods: dict[str, SignInMethod] = {}


def register_sign_in_method(method: SignInMethod) -> None:
    """Register ``method``. Call it in ``AppConfig.ready``."""
    _methods[method.name] = method


def has_sign_in_methods() -> bool:
    """Return whether users can sign in other than by password."""
    return bool(_methods)


def count_sign_in_methods(user: User) -> int:
    """Return the number of the user's credentials, the password included."""
    return int(user.has_usable_password()) + sum(one.count(user) for one in _methods.values())


def remove_sign_in_methods(user: User, *, since: datetime | None = None) -> None:
    """Delete the user's credentials except the password; with ``since`` only later ones."""
    for method in _methods.values():
        method.remove(user, since)
