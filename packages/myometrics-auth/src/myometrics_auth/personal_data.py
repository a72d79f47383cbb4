"""Export and erasure of auth's data about a user. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.contenttypes.models import ContentType
from django.db import router

from myometrics_core.jobs import Job
from myometrics_core.personal_data import PersonalDataSection
from myometrics_core.times import utc_text
from myometrics_core.users import lock_user_for_delete, user_id_json

from .jobs import ADDRESS_JOBS, SendSecurityNotice
from .models import (
    AddressOwnership,
    EmailChange,
    Invitation,
    KnownDevice,
    RecoveryCode,
    Session,
    TotpDevice,
    User,
)
from .second_factor_kinds import registered_second_factors
from .selectors import second_factor_state
from .serializers import AdminUserSerializer, EmailChangeSerializer, SessionSerializer
from .services.login_throttle import login_throttle_erase


class ProfileSection(PersonalDataSection):
    """The account with its second factor state, known devices and sessions, as one record."""

    name = "profile"
    order = 10
    many = False

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        user = cast("User", user)
        sessions = Session.objects.filter(user=user).order_by("created_at")
        changes = EmailChange.objects.filter(user=user).order_by("requested_at")
        yield {
            **AdminUserSerializer.read(user),
            "secondFactor": second_factor_state(user=user)["enabled"],
            "knownDevices": [
                {"device": device.family, "lastSignIn": utc_text(device.last_seen_at)}
                for device in KnownDevice.objects.filter(user=user).order_by("last_seen_at")
            ],
            "sessions": [
                {name: value for name, value in row.items() if name != "current"}
                for row in SessionSerializer(sessions, many=True).data
            ],
            "addressOwnerships": [
                {
                    "since": row.since and utc_text(row.since),
                    "until": row.until and utc_text(row.until),
                }
                for row in AddressOwnership.objects.filter(user=user).order_by("pk")
            ],
            "emailChanges": list(EmailChangeSerializer(changes, many=True).data),
            **{
                name: value
                for factor in registered_second_factors()
                for name, value in factor.export(user).items()
            },
        }

    def erase(self, user: AbstractBaseUser) -> None:
        """Delete auth's data about a user; also works if the site keeps the user's row."""
        user = cast("User", user)
        user_data_delete(user, router.db_for_write(Session))
        # End sessions first: this also deletes the browsers' Django sessions.
        Session.objects.filter(user=user).end()
        for model in (Session, KnownDevice, RecoveryCode, TotpDevice, EmailChange):
            model.objects.filter(user=user).delete()
        Invitation.objects.filter(inviter=user).delete()
        for factor in registered_second_factors():
            factor.remove(user=user)


def user_data_delete(user: User, using: str) -> None:
    """Delete data that no cascade reaches: failed sign-ins, pending mails, admin log names.

    What remains of the user's addresses is their keyed hashes, so that a later owner does not get
    earlier uploads.

    Called before ``user`` is deleted from the database ``using``, by erasure or by site code.
    """
    lock_user_for_delete(user, using)
    login_throttle_erase(user)
    AddressOwnership.objects.using(using).end(user.pk)
    Job.objects.filter(kind__in=ADDRESS_JOBS, payload__email=user.email_canonical).delete()
    Invitation.objects.filter(email_canonical=user.email_canonical).delete()
    Job.objects.filter(kind=SendSecurityNotice.name, payload__user=user_id_json(user.pk)).delete()
    if apps.is_installed("django.contrib.admin"):
        # The admin site logs changes of a proxy model under the content type of the proxy.
        models = [model for model in apps.get_models() if issubclass(model, get_user_model())]
        types = ContentType.objects.get_for_models(*models, for_concrete_models=False)
        entries = apps.get_model("admin", "LogEntry").objects.filter(
            content_type__in=list(types.values()), object_id=str(user.pk)
        )
        entries.update(object_repr=f"user {user.pk}")
