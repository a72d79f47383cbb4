"""The entries that are held."""

from __future__ import annotations

from typing import Any

from django.db.models import Q

from .models import LegalHold


class HeldEntries:
    """Selects the entries of all holds that are not released."""

    def condition(self, using: str) -> Q | None:
        holds = LegalHold.objects.using(using).filter(released_at=None)
        rows = list(holds.values_list("user_id", "data_subject", "pseudonyms"))
        values: dict[str, list[Any]] = {
            "user_id": [user_id for user_id, _, _ in rows if user_id is not None],
            "data_subject": [data_subject for _, data_subject, _ in rows if data_subject],
            "pseudonym": [name for _, _, pseudonyms in rows for name in pseudonyms],
        }
        held = Q()
        for column, found in values.items():
            if found:
                # Sorted, so that equal holds have equal conditions.
                held |= Q(**{f"{column}__in": sorted(set(found))})
        return held or None

    def user_retained(self, user_id: Any, pseudonym: str, using: str) -> None:
        for hold in LegalHold.objects.using(using).filter(user_id=user_id):
            hold.pseudonyms.append(pseudonym)
            hold.save(using=using, update_fields=["pseudonyms"])
