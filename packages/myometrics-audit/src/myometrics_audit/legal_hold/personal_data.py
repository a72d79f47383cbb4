"""Export and erasure of legal holds that name a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import router
from django.db.models import Q

from myometrics_core.db import read_in_batches
from myometrics_core.personal_data import PersonalDataSection

from .models import LegalHold


class LegalHoldsSection(PersonalDataSection):
    """Holds on the user's entries, without their reasons, and holds that the user placed."""

    name = "legal_holds"
    # Before the audit log. Erasure goes backwards: it must know the user's holds while it erases
    # entries.
    order = 39

    def export(self, user: AbstractBaseUser) -> Iterator[Mapping[str, Any]]:
        named = Q(user=user.pk) | Q(placed_by=user.pk) | Q(released_by=user.pk)
        columns = ("id", "reason", "user", "placed_by", "placed_at", "released_by", "released_at")
        holds = LegalHold.objects.filter(named).order_by("id").values(*columns)
        for hold in read_in_batches(holds):
            is_own = hold["placed_by"] == user.pk
            yield {
                "id": hold["id"],
                "holds_my_entries": hold["user"] == user.pk,
                "placed_by_me": is_own,
                "released_by_me": hold["released_by"] == user.pk,
                # It may contain data of others.
                "reason": hold["reason"] if is_own else None,
                "placed_at": hold["placed_at"],
                "released_at": hold["released_at"],
            }

    def erase(self, user: AbstractBaseUser) -> None:
        holds = LegalHold.objects.using(router.db_for_write(LegalHold))
        for column in ("user", "placed_by", "released_by"):
            holds.filter(**{column: user.pk}).update(**{column: None})
