"""The audit log and its evidence. Specification: "AuditLog Model"."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import models, router
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from myometrics_core.db import PortableCharField, PortableDateTimeField, PortableTextField
from myometrics_core.times import whole_milliseconds

from ..conf import KEY_ID_LENGTH
from ..signing.keys import active_key
from ..signing.signatures import (
    ENTRY_VERSION,
    actor_commitment,
    actor_nonce,
    canonical_entry_v2,
    entry_leaf_v2,
    entry_nonce,
)
from .inserts import insert_entries_at_once, insert_entry
from .querysets import AuditLogQuerySet, refuse
from .user_deletion import ERASE_OR_RETAIN

MAX_LENGTHS = {"action": 50, "resource_type": 50, "resource_id": 100}
"""Maximum lengths of an entry's text columns, in characters."""

OPTIONAL_LENGTHS = {"data_subject": 100, "purpose": 100, "legal_basis": 100}
"""Maximum lengths of the text columns that may be empty."""


def _optional_text(label: Any, name: str) -> PortableCharField:
    return PortableCharField(
        label,
        max_length=OPTIONAL_LENGTHS[name],
        null=True,
        blank=True,
        editable=False,
    )


def _user_key(text: str) -> Any:
    """Return a user's primary key as the database returns it, because the leaf covers it."""
    try:
        return get_user_model()._meta.pk.to_python(text)
    except ValidationError as error:
        raise ValueError(f"{text!r} is no primary key of a user") from error


class AuditLog(models.Model):
    """An immutable entry: the user, the action, the resource, the time and the client."""

    class Origin(models.TextChoices):
        """The reporter of an event."""

        CLIENT = "client", _("client")
        SERVER = "server", _("server")
        IMPORT = "import", _("import")

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        verbose_name=_("user"),
        on_delete=ERASE_OR_RETAIN,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
    )
    action = PortableCharField(_("action"), max_length=MAX_LENGTHS["action"])
    resource_type = PortableCharField(_("resource type"), max_length=MAX_LENGTHS["resource_type"])
    resource_id = PortableCharField(_("resource id"), max_length=MAX_LENGTHS["resource_id"])
    timestamp = PortableDateTimeField(_("time"), default=timezone.now, editable=False)
    ip_address = models.GenericIPAddressField(_("IP address"), null=True, blank=True)
    user_agent = PortableTextField(_("user agent"), blank=True, default="")
    details = models.JSONField(_("details"), default=dict, blank=True)
    pseudonym = models.CharField(
        _("pseudonym"), max_length=32, blank=True, default="", editable=False
    )
    # NULL if the entry records no event of another package: the unique constraint ignores NULL.
    activity_id = PortableCharField(
        _("activity id"),
        max_length=150,
        null=True,
        blank=True,
        editable=False,
    )
    nonce = models.BinaryField(_("nonce"), max_length=32, editable=False)
    # NULL for entries of version 1, whose leaves don't cover it.
    origin = models.CharField(  # noqa: DJ001
        _("origin"), max_length=10, null=True, blank=True, editable=False, choices=Origin.choices
    )

    # The columns below are NULL for entries of version 1.
    data_subject = _optional_text(_("data subject"), "data_subject")
    purpose = _optional_text(_("purpose"), "purpose")
    legal_basis = _optional_text(_("legal basis"), "legal_basis")
    actor = models.BinaryField(_("actor"), max_length=32, null=True, editable=False)
    actor_nonce = models.BinaryField(_("actor nonce"), max_length=16, null=True, editable=False)

    objects: ClassVar[AuditLogQuerySet] = AuditLogQuerySet.as_manager()  # type: ignore[assignment]

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering = ["-timestamp", "-id"]
        indexes = [
            models.Index(fields=["timestamp", "id"], name="myo_audit_time"),
            models.Index(fields=["action", "timestamp", "id"], name="myo_audit_action"),
            models.Index(fields=["resource_type", "timestamp", "id"], name="myo_audit_type"),
            models.Index(
                fields=["user", "timestamp", "id", "action", "resource_type"],
                name="myo_audit_user",
            ),
            models.Index(fields=["resource_id", "timestamp", "id"], name="myo_audit_resource_time"),
            # Partial: most entries are about no data subject, and cost nothing here.
            models.Index(
                fields=["data_subject", "timestamp", "id"],
                condition=models.Q(data_subject__gt=""),
                name="myo_audit_subject",
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["activity_id"],
                condition=models.Q(activity_id__isnull=False),
                name="myo_audit_activity",
            )
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.resource_type} {self.resource_id}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Insert a new entry and its leaf in one transaction, without model signals.

        Raises ``ImmutableEntry`` for an existing entry.
        """
        if not self._state.adding:
            refuse("save() of an existing entry", "record a new entry that corrects the old one")
        using = kwargs.get("using") or router.db_for_write(AuditLog, instance=self)
        leaf_hash, key_id = self.sign()
        insert_entry(
            self,
            leaf_table=Leaf._meta.db_table,
            leaf=(leaf_hash, key_id, ENTRY_VERSION),
            using=using,
        )

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        """Refused: raises ``ImmutableEntry``."""
        refuse("delete()", "delete the user, or run 'manage.py audit_purge'")

    def sign(self) -> tuple[bytes, str]:
        """Complete a new entry; return its leaf's hash and the id of the key.

        Sets the nonce, the commitment to the user, the rounded time and the origin.
        """
        key = active_key()
        user_id: Any = self.user_id
        if isinstance(user_id, str):
            self.user_id = _user_key(user_id)
        # Django's serializers keep milliseconds only, and the leaf covers the time.
        self.timestamp = whole_milliseconds(self.timestamp)
        self.origin = self.origin or self.Origin.SERVER
        for name in OPTIONAL_LENGTHS:
            setattr(self, name, getattr(self, name) or "")
        self.actor = self.actor_nonce = None
        if self.user_id is not None:
            self.actor_nonce = actor_nonce(self.user_id, key)
            self.actor = actor_commitment(self.user_id, self.actor_nonce)
        row = canonical_entry_v2(self, None if self.actor is None else self.actor.hex())
        self.nonce = entry_nonce(row, key)
        return entry_leaf_v2(self.nonce, row), key.id

    @staticmethod
    def insert_at_once(entries: Sequence[AuditLog], using: str) -> None:
        """Insert new entries and their leaves in one statement; PostgreSQL only."""
        leaves = [(*entry.sign(), ENTRY_VERSION) for entry in entries]
        insert_entries_at_once(entries, leaf_table=Leaf._meta.db_table, leaves=leaves, using=using)

    @staticmethod
    def write_leaves(
        entries: Iterable[AuditLog],
        signed: Iterable[tuple[bytes, str]],
        using: str,
        batch_size: int | None = None,
    ) -> None:
        """Insert the leaves of new entries; call it in the transaction that inserted them.

        ``signed`` are the results of :meth:`sign`, in the order of the entries.
        """
        leaves = [
            Leaf(entry_id=entry.pk, hash=leaf_hash, key_id=key_id, version=ENTRY_VERSION)
            for entry, (leaf_hash, key_id) in zip(entries, signed, strict=True)
        ]
        Leaf.objects.using(using).bulk_create(leaves, batch_size=batch_size)


class Leaf(models.Model):
    """The signed hash of one entry. No foreign key: a leaf outlives its entry."""

    entry_id = models.BigIntegerField(_("entry id"), primary_key=True)
    hash = models.BinaryField(_("hash"), max_length=32)
    key_id = models.CharField(_("key id"), max_length=KEY_ID_LENGTH)
    seal_number = models.BigIntegerField(_("seal number"), null=True)
    erasure_id = models.UUIDField(_("erasure id"), null=True)
    version = models.SmallIntegerField(_("version"), null=True)  # NULL is version 1

    class Meta:
        verbose_name = _("leaf")
        verbose_name_plural = _("leaves")
        indexes = [
            models.Index(fields=["seal_number", "entry_id"], name="myo_audit_leaf_seal"),
            models.Index(
                fields=["erasure_id", "entry_id"],
                condition=models.Q(erasure_id__isnull=False),
                name="myo_audit_leaf_erasure",
            ),
        ]

    def __str__(self) -> str:
        return f"leaf of entry {self.entry_id}"


class Seal(models.Model):
    """A signed Merkle root over a batch of leaves, chained to the previous seal."""

    number = models.BigIntegerField(_("number"), primary_key=True)
    root = models.BinaryField(_("root"), max_length=32)
    entries = models.IntegerField(_("entries"))
    erasures = models.IntegerField(_("erasures"))
    sealed_at = PortableDateTimeField(_("sealed at"))
    previous = models.BinaryField(_("previous"), max_length=32)
    key_id = models.CharField(_("key id"), max_length=KEY_ID_LENGTH)
    signature = models.BinaryField(_("signature"), max_length=32)
    anchored_at = models.DateTimeField(_("anchored at"), null=True)

    class Meta:
        verbose_name = _("seal")
        verbose_name_plural = _("seals")
        ordering = ["number"]
        indexes = [
            models.Index(
                fields=["number"],
                condition=models.Q(anchored_at__isnull=True),
                name="myo_audit_seal_anchor",
            )
        ]

    def __str__(self) -> str:
        return f"seal {self.number}"


class Erasure(models.Model):
    """A signed record that entries were erased, or kept without their user."""

    class Reason(models.TextChoices):
        """Why entries were erased."""

        USER = "user", _("user deleted")
        PURGE = "purge", _("retention period over")
        RETAIN = "retain", _("user deleted, entries kept")

    id = models.UUIDField(_("id"), primary_key=True, default=uuid.uuid4, editable=False)
    reason = models.CharField(_("reason"), max_length=10, choices=Reason.choices)
    erased_at = PortableDateTimeField(_("erased at"), default=timezone.now)
    entries = models.BigIntegerField(_("entries"))
    digest = models.BinaryField(_("digest"), max_length=32)
    pseudonym = models.CharField(  # noqa: DJ001
        _("pseudonym"), max_length=32, null=True, unique=True
    )
    details = models.JSONField(_("details"), default=dict)
    nonce = models.BinaryField(_("nonce"), max_length=16)
    key_id = models.CharField(_("key id"), max_length=KEY_ID_LENGTH)
    hash = models.BinaryField(_("hash"), max_length=32)
    seal_number = models.BigIntegerField(_("seal number"), null=True)

    class Meta:
        verbose_name = _("erasure")
        verbose_name_plural = _("erasures")
        ordering = ["erased_at", "id"]
        indexes = [models.Index(fields=["seal_number", "id"], name="myo_audit_erasure_seal")]

    def __str__(self) -> str:
        return f"erasure of {self.entries} entries ({self.reason})"


class EntryCount(models.Model):
    """The stored number of sealed entries of a scope in a period, for counting and paging."""

    class Period(models.TextChoices):
        """Length of a counted period."""

        ALL = "A", _("all time")
        MONTH = "M", _("month")
        DAY = "D", _("day")

    scope = PortableCharField(_("scope"), max_length=255)
    period = models.CharField(_("period"), max_length=1, choices=Period.choices)
    start = models.DateField(_("start"))
    count = models.BigIntegerField(_("count"))

    class Meta:
        verbose_name = _("count of entries")
        verbose_name_plural = _("counts of entries")
        constraints = [
            models.UniqueConstraint(fields=["scope", "period", "start"], name="myo_audit_count")
        ]

    def __str__(self) -> str:
        return f"{self.count} in {self.scope or 'all'} from {self.start} ({self.period})"


class Verification(models.Model):
    """The result of one ``audit_verify`` run, shown in the admin as "verified up to"."""

    started_at = models.DateTimeField(_("started at"))
    finished_at = models.DateTimeField(_("finished at"))
    seal_number = models.BigIntegerField(_("seal number"), null=True)
    sealed_at = PortableDateTimeField(_("sealed at"), null=True)
    entries = models.BigIntegerField(_("entries"))
    problems = models.BigIntegerField(_("problems"))

    class Meta:
        verbose_name = _("verification")
        verbose_name_plural = _("verifications")
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.entries} entries, {self.problems} problems ({self.finished_at:%Y-%m-%d})"
