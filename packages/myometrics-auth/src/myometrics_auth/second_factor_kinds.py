"""Second factors besides the authenticator app, which opt-in apps register."""

from __future__ import annotations

from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework import serializers
from rest_framework.exceptions import APIException

if TYPE_CHECKING:
    from .models import User
    from .requests import AnyRequest


class SecondFactor(ABC):
    """A kind of second factor. ``name`` is its key in the body of ``auth/login/mfa/``."""

    name: str

    @abstractmethod
    def field(self) -> serializers.Field[Any, Any, Any, Any]:
        """Return an optional field that validates the shape of a response."""

    @abstractmethod
    def user_ids(self) -> QuerySet[Any, Any]:
        """Return a query of the ids of the users who have this factor."""

    @abstractmethod
    def take(
        self, *, user: User, response: Any, token_id: str, request: AnyRequest, in_browser: bool
    ) -> APIException | None:
        """Use up a response; return ``None`` if it was accepted, else the error for the client.

        Called in a transaction in which ``user`` is locked, and which is committed either way.
        ``token_id`` is the id of the sign-in's ``mfa_token``; ``in_browser`` says whether the
        response comes from a page of the admin site.
        """

    @abstractmethod
    def remove(self, *, user: User, since: datetime | None = None) -> None:
        """Delete all factors of this kind that ``user`` has, and what belongs to them.

        With ``since``, only factors that were set up then or later.
        """

    def export(self, user: User) -> dict[str, Any]:
        """Return what the export of personal data says about them, for the profile."""
        return {}

    def admin_part(self, *, site: Any, request: HttpRequest, token: str) -> dict[str, Any] | None:
        """Return the factor's part of a sign-in page of the admin site, or ``None``.

        ``template`` names the template to include, which gets the rest as ``part``. ``token`` is
        the sign-in's ``mfa_token``, empty in the first step.
        """
        return None

    def admin_urls(self, site: Any) -> list[Any]:
        """Return the URLs of the parts, below the admin site's root."""
        return []


_factors: dict[str, SecondFactor] = {}


def register_second_factor(factor: SecondFactor) -> None:
    """Register ``factor``. Call it in ``AppConfig.ready``."""
    _factors[factor.name] = factor


def registered_second_factors() -> list[SecondFactor]:
    """Return the registered second factors, without the authenticator app."""
    return list(_factors.values())
