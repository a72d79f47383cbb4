"""Export and erasure of auth's data about a user. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.db import router

from myometrics_core.personal_data import PersonalDataSection
from myometrics_core.users import lock_user_for_delete

from .models import PasswordResetRequest, RecoveryCode, Session, TotpDevice
from .selectors import second_factor_state
from .serializers import AdminUserSerializer, SessionSerializer
from .services.guessing import guesses_erase

__all__ = ["ProfileSection", "person_forget"]


class ProfileSection(PersonalDataSection):
    """The account with its second factor state and sessions, as one record."""

    name = "profile"
    order = 10
    many = False

    def export(self, user: Any) -> Iterator[Mapping[str, Any]]:
        """Yield the user as administrators see them, the second factor state and the sessions."""
        sessions = Session.objects.filter(user=user).order_by("created_at")
        yield {
            **AdminUserSerializer.read(user),
            "secondFactor": second_factor_state(user=user)["enabled"],
            "sessions": [_session(row) for row in SessionSerializer(sessions, many=True).data],
        }

    def erase(self, user: Any) -> None:
        """Delete auth's data about a user; also works if the site keeps the user's row."""
        person_forget(user, router.db_for_write(Session))
        # End sessions first: this also deletes the browsers' Django sessions.
        Session.objects.filter(user=user).end()
        for model in (Session, RecoveryCode, TotpDevice):
            model.objects.filter(user=user).delete()


def person_forget(user: Any, using: str) -> None:
    """Delete data that no cascade reaches: failed sign-ins, pending resets, admin log names.

    Called before ``user`` is deleted from the database ``using``, by erasure or by site code.
    """
    lock_user_for_delete(user, using)
    addresses = user.sessions.exclude(address=None).values_list("address", flat=True)
    guesses_erase(email=user.email, addresses=addresses)
    PasswordResetRequest.objects.filter(email_canonical=user.email_canonical).delete()
    _forget_in_admin_log(user)


def _session(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "current"}


def _forget_in_admin_log(user: Any) -> None:
    if not apps.is_installed("django.contrib.admin"):
        return
    about = apps.get_model("admin", "LogEntry").objects.filter(
        content_type=ContentType.objects.get_for_model(user), object_id=str(user.pk)
    )
    about.update(object_repr=f"user {user.pk}")
