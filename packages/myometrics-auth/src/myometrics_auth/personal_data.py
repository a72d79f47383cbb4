"""What auth holds about a person. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from myometrics_core.personal_data import PersonalDataSection

from .models import PasswordResetRequest, Session, SignInFailures
from .selectors import second_factor_state
from .serializers import AdminUserSerializer, SessionSerializer
from .services.guessing import GuessedAccount

__all__ = ["ProfileSection"]


class ProfileSection(PersonalDataSection):
    """The account itself, with its sign-ins: one record."""

    name = "profile"
    order = 10
    many = False

    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """The user as administrators see them, their second factor and their sessions."""
        sessions = Session.objects.filter(user=user).order_by("created_at")
        yield {
            **AdminUserSerializer(user).data,
            "secondFactor": second_factor_state(user=user)["enabled"],
            "sessions": list(map(dict, SessionSerializer(sessions, many=True).data)),
        }

    def erase(self, user: Any) -> None:
        """What no cascade reaches: failures counted by address, resets not yet mailed."""
        addresses = user.sessions.exclude(address=None).values_list("address", flat=True)
        keys = [GuessedAccount(user.email, guessed="second factor").shared_key]
        for address in {None, *addresses}:
            account = GuessedAccount(user.email, address)
            keys += [account.shared_key, account.own_key]
        SignInFailures.objects.filter(key__in=keys).delete()
        PasswordResetRequest.objects.filter(email_canonical=user.email_canonical).delete()
