"""Export and erasure of what identity providers sent about a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser

from myometrics_core.personal_data import PersonalDataSection

from .models import ProvisionedUser, ProvisioningMembership


class ProvisioningSection(PersonalDataSection):
    """One record for each identity provider that manages the user."""

    name = "provisioning"
    order = 15

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        for provisioned in ProvisionedUser.objects.filter(user_id=user.pk).order_by("pk"):
            memberships = ProvisioningMembership.objects.filter(
                user_id=user.pk, group__provider=provisioned.provider
            )
            yield {
                "provider": provisioned.provider,
                "userName": provisioned.user_name,
                "externalId": provisioned.external_id,
                "attributes": provisioned.attributes,
                "groups": list(
                    memberships.order_by("pk").values_list("group__display_name", flat=True)
                ),
                "createdAt": provisioned.created_at.isoformat(),
            }

    def erase(self, user: AbstractBaseUser) -> None:
        ProvisioningMembership.objects.filter(user_id=user.pk).delete()
        ProvisionedUser.objects.filter(user_id=user.pk).delete()
