"""Export and erasure of identities. Specification: "Data Export Endpoints"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, Final, cast

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import router

from myometrics_auth.conf import auth_settings
from myometrics_auth.models import Session, User
from myometrics_core.personal_data import PersonalDataSection
from myometrics_core.times import utc_now
from myometrics_core.users import keyed_hash, lock_user_for_delete

from .models import ErasedIdentity, Identity, LinkRequest
from .provisioning import IDENTITY_PURPOSE
from .serializers import IdentitySerializer

ERASED_FOR: Final = timedelta(hours=24)
"""How long older tokens of an erased identity are refused, unless bearers last longer."""


class IdentitiesSection(PersonalDataSection):
    """The user's accounts at identity providers."""

    name = "identities"
    order = 15

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        for identity in Identity.objects.filter(user=cast("User", user)).order_by("pk"):
            row = IdentitySerializer.read(identity)
            yield {**row, "issuer": identity.issuer, "subject": identity.subject}

    def erase(self, user: AbstractBaseUser) -> None:
        """Delete the identities; also works if the site keeps the user's row."""
        user = cast("User", user)
        user_identities_delete(user, router.db_for_write(Identity))
        # End sessions first: this also deletes the browsers' Django sessions.
        Session.objects.filter(user=user, federated__isnull=False).end()
        Identity.objects.filter(user=user).delete()
        LinkRequest.objects.filter(user=user).delete()


def user_identities_delete(user: User, using: str) -> None:
    """Remember the user's identities as keyed hashes: their older tokens make no new account.

    Called before ``user`` is deleted from the database ``using``, by erasure or by site code.
    """
    lock_user_for_delete(user, using)
    now = utc_now()
    kept = max(ERASED_FOR, auth_settings.FEDERATED_BEARER_LIFETIME or ERASED_FOR)
    for identity in Identity.objects.using(using).filter(user=user):
        ErasedIdentity.objects.using(using).update_or_create(
            identity_hash=keyed_hash(IDENTITY_PURPOSE, identity.issuer, identity.subject),
            defaults={"erased_at": now, "expires_at": now + kept},
        )
