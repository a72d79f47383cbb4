"""Verified and linked addresses, for packages that look up the user of an address."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from myometrics_core.users import AddressOwners, AddressOwnership

from .models import AddressOwnership as StoredOwnership
from .models.address_ownerships import address_hashes


class VerifiedAddresses(AddressOwners):
    """The rows of ``AddressOwnership``."""

    name = "auth"

    def of_addresses(self, addresses: Collection[str]) -> Mapping[str, Iterable[AddressOwnership]]:
        hashes = {found: address for address in addresses for found in address_hashes(address)}
        rows = StoredOwnership.objects.filter(address_hash__in=hashes, user__isnull=False)
        found: dict[str, list[AddressOwnership]] = {}
        for row in rows.order_by("pk"):
            found.setdefault(hashes[row.address_hash], []).append(self._ownership(row))
        return found

    def of_keys(self, keys: Collection[str], *, lock: bool) -> Iterable[AddressOwnership]:
        ids = [int(key.removeprefix(f"{self.name}:")) for key in keys]
        rows = StoredOwnership.objects.filter(pk__in=ids, user__isnull=False).order_by("pk")
        return map(self._ownership, rows.select_for_update(no_key=True) if lock else rows)

    def _ownership(self, row: StoredOwnership) -> AddressOwnership:
        return AddressOwnership(f"{self.name}:{row.pk}", row.user_id, row.since, row.until)
