"""Periods in which verified addresses identify users."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from itertools import islice
from typing import Any, ClassVar, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableDateTimeField, atomic_write, read_in_batches
from myometrics_core.times import utc_now
from myometrics_core.users import (
    address_owners_changed,
    canonical_email,
    keyed_hashes,
)

PURPOSE: Final = "address ownership"
BATCH: Final = 500

LinkedAddresses = Callable[[Collection[Any]], Iterable[tuple[Any, str]]]
_linked: dict[str, LinkedAddresses] = {}


def register_linked_addresses(name: str, find: LinkedAddresses) -> None:
    """Register ``find(user_ids)``, which yields user ids with addresses verified by other services.

    Such as those of linked identities. After each link and unlink, call
    ``AddressOwnership.objects.follow([user.pk])`` in the same transaction. A linked address that
    another user has verified or linked stays with that user.
    """
    _linked[name] = find


def _linked_addresses(user_ids: Collection[Any]) -> list[tuple[Any, str]]:
    return [found for find in _linked.values() for found in find(user_ids)]


class AddressOwnershipQuerySet(models.QuerySet["AddressOwnership"]):
    """Queries on ownerships, and the updates that keep them equal to the users' addresses."""

    def follow(self, user_ids: Iterable[Any]) -> None:
        """Make the open ownerships of the users those of their verified and linked addresses.

        Idempotent. Call it in the transaction that changes such an address, after the change.
        A few statements per 500 users.
        """
        remaining = iter(user_ids)
        while batch := set(islice(remaining, BATCH)):
            with atomic_write(self.db, savepoint=False):
                self._follow(batch)

    def follow_missed(self) -> None:
        """Follow the users whose verified address has no owner.

        These were written by SQL, or by processes of a release without ownerships.
        """
        open_ones = self.filter(user=OuterRef("pk"), until=None)
        users: models.QuerySet[Any] = models.QuerySet(get_user_model(), using=self.db)
        verified = users.filter(verified_at__isnull=False)
        missed = verified.exclude(Exists(open_ones)).order_by("pk")
        self.follow(user.pk for user in read_in_batches(missed))

    def annul(self, user_id: Any, *, since: datetime) -> None:
        """Delete the ownerships that the user got at ``since`` or later by changes of the address.

        As if the user had never had them. Call it before the change to another address is undone,
        in the same transaction.
        """
        linked = [canonical_email(one) for _pk, one in _linked_addresses([user_id])]
        kept = [found for address in linked for found in address_hashes(address)]
        taken = self.filter(user=user_id, taken_at__gte=since).exclude(address_hash__in=kept)
        keys = list(taken.order_by("pk").select_for_update().values_list("pk", flat=True))
        if self.filter(pk__in=keys).delete()[0]:
            address_owners_changed()

    def end(self, user: Any) -> None:
        """End the ownerships of a user who is being deleted; the hashes are kept without them."""
        with atomic_write(self.db, savepoint=False):
            own = self.filter(user=user)
            keys = list(own.order_by("pk").select_for_update().values_list("pk", flat=True))
            self.filter(pk__in=keys, until=None).update(until=utc_now())
            self.filter(pk__in=keys).update(user=None)

    def count_unmatched(self) -> int:
        """Count the open ownerships whose hash no key makes any more: their key was removed."""
        rows = self.filter(until=None, user__email__isnull=False).select_related("user")
        remaining, count = iter(read_in_batches(rows.order_by("pk"))), 0
        while batch := list(islice(remaining, BATCH)):
            linked = _linked_addresses({row.user_id for row in batch})
            addresses = [(row.user_id, row.user.email_canonical) for row in batch if row.user]
            addresses += [(pk, canonical_email(address)) for pk, address in linked]
            known = {(pk, found) for pk, address in addresses for found in address_hashes(address)}
            count += sum((row.user_id, row.address_hash) not in known for row in batch)
        return count

    def _follow(self, user_ids: set[Any]) -> None:
        users: models.QuerySet[Any] = models.QuerySet(get_user_model(), using=self.db)
        verified = users.filter(pk__in=user_ids, verified_at__isnull=False).values_list(
            "pk", "email_canonical"
        )
        # In this order: a verified address wins over a linked one.
        wanted = [(pk, address, True) for pk, address in verified]
        linked = _linked_addresses(user_ids)
        wanted += [(pk, canonical_email(address), False) for pk, address in linked]
        hashes = {address: address_hashes(address) for _pk, address, _verified in wanted}
        of_users = Q(user__in=user_ids, until=None)
        rows = self.filter(
            of_users | Q(address_hash__in=[h for all in hashes.values() for h in all])
        )
        by_hash: dict[str, list[AddressOwnership]] = defaultdict(list)
        for row in rows.order_by("pk").select_for_update():
            by_hash[row.address_hash].append(row)
        now = utc_now()
        kept = {(pk, found) for pk, address, _verified in wanted for found in hashes[address]}
        ended = [
            row
            for of_hash in by_hash.values()
            for row in of_hash
            if row.until is None
            and row.user_id in user_ids
            and (row.user_id, row.address_hash) not in kept
        ]
        for row in ended:
            row.until = now
        begun = []
        for pk, address, is_verified in wanted:
            before = [row for found in hashes[address] for row in by_hash[found]]
            last = max(before, key=lambda row: (row.taken_at, row.pk or 0), default=None)
            holder = next((row for row in before if row.until is None), None)
            if holder is not None:
                is_free = is_verified or holder.user_id is None
                if holder.user_id == pk or not is_free:
                    continue
                holder.until = now
                ended.append(holder)
            # A returning user continues the old period, unless another user had the address since.
            since: Any = None
            if last is not None and last.user_id == pk:
                since = last.since
            elif last is not None:
                # Not before the end of another user's period, even if the clock was set back.
                since = max(now, *(row.until for row in before if row.until))
            row = self.model(address_hash=hashes[address][0], user_id=pk, since=since, taken_at=now)
            by_hash[row.address_hash].append(row)
            begun.append(row)
        if not ended and not begun:
            return
        ends = [row.pk for row in ended]
        self.filter(pk__in=ends).update(until=now)
        self.bulk_create(begun, batch_size=BATCH)
        address_owners_changed()


class AddressOwnership(models.Model):
    """A period in which uploads under an address belong to a user; the address is a keyed hash.

    The first owner of an address has it from the beginning (``since`` is null), a later one from
    the moment of taking it over (``taken_at``). ``user`` is null after the erasure of the user.
    Without a database constraint: processes of the previous release may delete the user.
    """

    address_hash = models.CharField(_("keyed hash of the address"), max_length=64, db_index=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        on_delete=models.SET_NULL,
        db_constraint=False,
        related_name="+",
        verbose_name=_("user"),
    )
    since = PortableDateTimeField(_("since"), null=True)
    until = PortableDateTimeField(_("until"), null=True)
    taken_at = PortableDateTimeField(_("taken"), default=utc_now)

    objects: ClassVar[AddressOwnershipQuerySet] = AddressOwnershipQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("ownership of an address")
        verbose_name_plural = _("ownerships of addresses")
        constraints = [
            models.UniqueConstraint(
                fields=["address_hash"], condition=Q(until=None), name="mm_ownership_open_unique"
            )
        ]

    def __str__(self) -> str:
        return f"{self.pk}"


def address_hashes(address: str) -> list[str]:
    """Return the hashes of a canonical address under every key, newest key first."""
    return keyed_hashes(PURPOSE, address)
