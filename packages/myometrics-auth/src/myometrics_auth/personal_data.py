"""Export and erasure of auth's data about a user. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from django.apps import apps
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.contenttypes.models import ContentType
from django.db import router

from myometrics_core.jobs import Job
from myometrics_core.personal_data import PersonalDataSection
from myometrics_core.users import lock_user_for_delete

from .jobs import SendPasswordReset
from .models import RecoveryCode, Session, TotpDevice, User
from .selectors import second_factor_state
from .serializers import AdminUserSerializer, SessionSerializer
from .services.login_throttle import login_throttle_erase

__all__ = ["ProfileSection", "user_data_delete"]


class ProfileSection(PersonalDataSection):
    """The account with its second factor state and sessions, as one record."""

    name = "profile"
    order = 10
    many = False

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        user = cast("User", user)
        sessions = Session.objects.filter(user=user).order_by("created_at")
        yield {
            **AdminUserSerializer.read(user),
            "secondFactor": second_factor_state(user=user)["enabled"],
            "sessions": [
                {name: value for name, value in row.items() if name != "current"}
                for row in SessionSerializer(sessions, many=True).data
            ],
        }

    def erase(self, user: AbstractBaseUser) -> None:
        """Delete auth's data about a user; also works if the site keeps the user's row."""
        user = cast("User", user)
        user_data_delete(user, router.db_for_write(Session))
        # End sessions first: this also deletes the browsers' Django sessions.
        Session.objects.filter(user=user).end()
        for model in (Session, RecoveryCode, TotpDevice):
            model.objects.filter(user=user).delete()


def user_data_delete(user: User, using: str) -> None:
    """Delete data that no cascade reaches: failed sign-ins, pending resets, admin log names.

    Called before ``user`` is deleted from the database ``using``, by erasure or by site code.
    """
    lock_user_for_delete(user, using)
    login_throttle_erase(user)
    resets = Job.objects.filter(kind=SendPasswordReset.name)
    resets.filter(payload__email=user.email_canonical).delete()
    if apps.is_installed("django.contrib.admin"):
        entries = apps.get_model("admin", "LogEntry").objects.filter(
            content_type=ContentType.objects.get_for_model(user), object_id=str(user.pk)
        )
        entries.update(object_repr=f"user {user.pk}")
