"""The user model. Specification: "User Model"."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, ClassVar

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.core.exceptions import FieldError
from django.db import models, transaction
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Cast
from django.db.models.lookups import Exact
from django.utils.translation import gettext_lazy as _

from myometrics_auth.model_fields import (
    CanonicalEmailField,
    DerivedColumn,
    StoredEmailField,
    UserSearchField,
)
from myometrics_auth.password_text import normalize_password, password_spellings
from myometrics_core.db import PortableCharField, atomic_write

from .address_ownerships import AddressOwnership

_BATCH = 500
_OWNED = frozenset({"email", "verified_at"})
"""Columns that decide which address a user owns."""


class Role(models.TextChoices):
    """A user's role in the clinic, which determines their permissions."""

    ADMIN = "admin", _("Administrator")
    DOCTOR = "doctor", _("Doctor")
    TECHNICIAN = "technician", _("Technician")


class UserQuerySet(models.QuerySet[Any]):
    """QuerySet of users. All writes also update the derived columns, the role's flags and the
    ownerships of addresses.
    """

    def update(self, **kwargs: Any) -> int:
        """Extend Django's ``update``: also write the derived columns.

        A changed role clears ``is_staff`` and ``is_superuser``; ``admin`` sets ``is_staff``. Raises
        ``FieldError`` if the source of a derived column is an expression.
        """
        flags = self._flags_of_role(kwargs)
        derived = [field for field in _derived_from(self.model, kwargs) if field.name not in kwargs]
        if not derived and _OWNED.isdisjoint(kwargs):
            return super().update(**{**flags, **kwargs})
        for name in {name for field in derived for name in field.source_fields} & kwargs.keys():
            if hasattr(kwargs[name], "resolve_expression"):
                raise FieldError(
                    f"{name} can't be updated by an expression: "
                    f"{', '.join(field.name for field in derived)} must follow. Save each user."
                )
        self._for_write = True
        written = 0
        with atomic_write(self.db):
            # Folding happens in Python, so the rows have to be loaded.
            for batch in _batches(list(self.values_list("pk", flat=True))):
                rows = self.filter(pk__in=batch)
                written += models.QuerySet.update(rows, **{**flags, **kwargs})
                if derived:
                    self._derive_again(derived, Q(pk__in=batch))
                self._follow_addresses(batch, kwargs)
        return written

    def bulk_update(
        self, objs: Iterable[Any], fields: Iterable[str], batch_size: int | None = None
    ) -> int:
        """Extend Django's ``bulk_update``: also write columns derived from ``fields``."""
        users, names = list(objs), list(fields)
        for field in _derived_from(self.model, names):
            for user in users:
                field.pre_save(user, False)
        with atomic_write(self.db, savepoint=False):
            written = super().bulk_update(users, _with_derived(self.model, names), batch_size)
            self._follow_addresses([user.pk for user in users], names)
        if "role" in names:
            rows = self._all_rows().filter(pk__in=[user.pk for user in users])
            flags = {pk: both for pk, *both in rows.values_list("pk", "is_staff", "is_superuser")}
            for user in users:
                if user.pk in flags:
                    user.is_staff, user.is_superuser = flags[user.pk]
        return written

    def bulk_create(
        self,
        objs: Iterable[Any],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Collection[str] | None = None,
        unique_fields: Collection[str] | None = None,
    ) -> list[Any]:
        """Extend Django's ``bulk_create``; raise ``FieldError`` if ``role`` is to be updated."""
        users, changed = list(objs), list(update_fields or ())
        if "role" in changed:
            raise FieldError("role can't be updated on a conflict. Save each user.")
        options = (batch_size, ignore_conflicts, update_conflicts, update_fields, unique_fields)
        derived = _derived_from(self.model, changed)
        verified = [user for user in users if user.verified_at is not None]
        if not (derived or verified):
            return super().bulk_create(users, *options)
        with atomic_write(self.db):
            made = super().bulk_create(users, *options)
            self._follow_addresses([user.pk for user in verified if user.pk is not None], _OWNED)
            for batch in _batches(users if derived else []):
                matches = Q()
                for user in batch:
                    matches |= Q(
                        **{name: getattr(user, name) for name in unique_fields or ("email",)}
                    )
                self._derive_again(derived, matches)
                written = self._all_rows().filter(matches)
                self._follow_addresses(list(written.values_list("pk", flat=True)), changed)
        return made

    def _follow_addresses(self, keys: Sequence[Any], names: Iterable[str]) -> None:
        if not _OWNED.isdisjoint(names) and _is_site_user(self.model):
            AddressOwnership.objects.using(self.db).follow(keys)

    def _flags_of_role(self, values: dict[str, Any]) -> dict[str, Any]:
        if "role" not in values:
            return {}
        role, field = values["role"], self.model._meta.get_field("role")
        if not hasattr(role, "resolve_expression"):
            role = Value(role, output_field=field)
        is_same = Exact(F("role"), role)
        is_admin = Exact(Cast(role, models.TextField()), Value(Role.ADMIN.value))
        return {
            flag: Case(
                When(is_same, then=F(flag)),
                When(is_admin, then=Value(True) if flag == "is_staff" else F(flag)),
                default=Value(False),
                output_field=models.BooleanField(),
            )
            for flag in ("is_staff", "is_superuser")
        }

    def _derive_again(self, derived: Sequence[Any], which: Q) -> None:
        users = list(self._all_rows().filter(which))
        for user in users:
            for field in derived:
                field.pre_save(user, False)
        if users:
            self._all_rows().bulk_update(users, [field.name for field in derived])

    def _all_rows(self) -> models.QuerySet[Any]:
        return models.QuerySet(self.model, using=self.db)


class UserManager(BaseUserManager.from_queryset(UserQuerySet)):  # type: ignore[misc]
    """Manager that creates users and finds them by any spelling of their address."""

    use_in_migrations = True

    def create_user(
        self, email: str, password: str | None = None, **fields: Any
    ) -> AbstractClinicUser:
        """Create and save a user; without a password the user can't sign in by password.

        Raises ``ValueError`` without an address, ``IntegrityError`` if it is taken.
        """
        if not email:
            raise ValueError("The e-mail address must be set.")
        user = self.model(email=email, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(
        self, email: str, password: str | None = None, **fields: Any
    ) -> AbstractClinicUser:
        given = {"role": Role.ADMIN, "is_staff": True, "is_superuser": True, **fields}
        return self.create_user(email, password, **given)

    def get_by_natural_key(self, username: str | None) -> AbstractClinicUser:
        return self.get(email_canonical=username or "")


class AbstractClinicUser(AbstractUser):
    """A user who signs in by e-mail address; base class for custom user models.

    ``PROFILE_FIELDS``: fields that users edit themselves, in the order of the admin site.
    ``verified_at``: when the user first proved access to the mailbox of ``email``; ``None`` if
    never. ``self_registered``: whether the account was created by ``auth/register/``; ``None``,
    which the previous release writes, means no.
    """

    username = None  # type: ignore[assignment]
    first_name = PortableCharField(_("first name"), max_length=30, blank=True)
    last_name = PortableCharField(_("last name"), max_length=30, blank=True)
    email = StoredEmailField(_("e-mail address"), unique=True)
    email_canonical = CanonicalEmailField(max_length=512, unique=True, editable=False)
    role = models.CharField(_("role"), max_length=20, choices=Role.choices, default=Role.DOCTOR)
    clinic_name = PortableCharField(_("clinic"), max_length=100, blank=True)
    search_text = UserSearchField(editable=False, default="")
    verified_at = models.DateTimeField(_("address verified"), null=True, editable=False)
    self_registered = models.BooleanField(
        _("self-registered"), null=True, default=False, editable=False
    )

    PROFILE_FIELDS: ClassVar[tuple[str, ...]] = ("first_name", "last_name", "clinic_name")
    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []

    objects = UserManager()  # type: ignore[misc]

    _was_disabled = False

    class Meta:
        abstract = True
        verbose_name = _("user")
        verbose_name_plural = _("users")

    def clean(self) -> None:
        """Keep the address as entered: its fields normalise it when saving."""

    def check_password(self, raw_password: str | None) -> bool:
        """Return whether the password is correct; upgrade an outdated hash.

        Unlike Django's method, compare-and-set: the upgrade does not overwrite a password that is
        changed concurrently. A password whose normalized form differs is checked in both forms.
        """
        checked = self.password
        if raw_password is None:
            return check_password(None, checked)

        def renew(password: str) -> None:
            same = type(self)._default_manager.filter(pk=self.pk, password=checked)
            renewed = make_password(normalize_password(password))
            if same.update(password=renewed):
                self.password = renewed

        # All of them, always: the time must not depend on the result.
        results = [
            check_password(spelling, checked, renew)
            for spelling in password_spellings(raw_password)
        ]
        return any(results)

    async def acheck_password(self, raw_password: str | None) -> bool:
        return await sync_to_async(self.check_password)(raw_password)

    def set_password(self, raw_password: str | None) -> None:
        """Hash and set the normalized password; ``None`` disables it."""
        if raw_password is None:
            self._record_disabling()
            super().set_password(None)
            return
        normalized, *others = password_spellings(raw_password)
        if not self.email:
            # Django's backend: hashing for an unknown account takes as long as `check_password`.
            for other in others:
                make_password(other)
        super().set_password(normalized)

    def normalize_stored_password(self, raw_password: str) -> None:
        """Replace the hash of a correct password that was hashed as entered (compare-and-set)."""
        normalized, *others = password_spellings(raw_password)
        checked = self.password
        if any(check_password(other, checked) for other in others):
            encoded = make_password(normalized)
            same = type(self)._default_manager.filter(pk=self.pk, password=checked)
            if same.update(password=encoded):
                self.password = encoded

    def set_unusable_password(self) -> None:
        self._record_disabling()
        super().set_unusable_password()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; setting or disabling the password ends every session of the user.

        Disabling it cancels a pending change of the address, which its link alone would confirm.
        """
        is_set = self._password is not None  # type: ignore[attr-defined]
        if self._state.adding or not (is_set or self._was_disabled):
            super().save(*args, **kwargs)
        else:
            with transaction.atomic(using=kwargs.get("using")):
                super().save(*args, **kwargs)
                self.sessions.end()  # type: ignore[attr-defined]
                if self._was_disabled:
                    self.email_changes.filter(confirmed_at=None).delete()  # type: ignore[attr-defined]
        self._was_disabled = False

    def save_base(
        self,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Also write columns that depend on the written fields.

        Not in ``save``, because Django adds ``update_fields`` for deferred fields after it. A role
        below administrator clears ``is_staff`` and ``is_superuser``; administrators get
        ``is_staff``. A written address or verification changes who owns the address.
        """
        is_role_written = update_fields is None or "role" in update_fields
        if is_role_written and not raw and not self._state.adding:
            changed = self._apply_role(using)
            update_fields = update_fields and [*update_fields, *changed]
        if update_fields is not None:
            update_fields = frozenset(_with_derived(type(self), update_fields))
        is_owner_written = not (
            raw
            or (self._state.adding and self.verified_at is None)
            or (update_fields is not None and _OWNED.isdisjoint(update_fields))
            or not _is_site_user(type(self))
        )
        if not is_owner_written:
            super().save_base(raw, force_insert, force_update, using, update_fields)
            return
        with transaction.atomic(using=using, savepoint=False):
            super().save_base(raw, force_insert, force_update, using, update_fields)
            AddressOwnership.objects.using(using).follow([self.pk])

    def _apply_role(self, using: str | None) -> list[str]:
        # Not the site's manager: it may filter rows.
        rows: models.QuerySet[Any] = models.QuerySet(type(self), using=using or self._state.db)
        before = rows.filter(pk=self.pk).values("role", "is_staff", "is_superuser").first()
        if before is None or before["role"] == self.role:
            return []
        if self.role == Role.ADMIN:
            self.is_staff = True
            return ["is_staff"]
        # Keep a flag that is set in the same write as the new role.
        cleared = [name for name in ("is_staff", "is_superuser") if before[name]]
        for name in cleared:
            setattr(self, name, False)
        return cleared

    def _record_disabling(self) -> None:
        # Without a previous password, sessions come from other login methods and continue.
        self._was_disabled = self._was_disabled or self.has_usable_password()


class User(AbstractClinicUser):
    """The user model of the suite: ``AUTH_USER_MODEL = "myometrics_auth.User"``."""

    class Meta(AbstractClinicUser.Meta):
        abstract = False
        swappable = "AUTH_USER_MODEL"
        indexes = [
            models.Index(fields=["role", "id"], name="mm_user_role_id"),
            models.Index(fields=["is_active", "id"], name="mm_user_active_id"),
        ]


def _is_site_user(model: type[models.Model]) -> bool:
    return issubclass(model, get_user_model())


def _with_derived(model: type[models.Model], names: Iterable[str]) -> list[str]:
    given = list(names)
    derived = (field.name for field in _derived_from(model, given))
    return [*given, *(name for name in derived if name not in given)]


def _derived_from(model: type[models.Model], names: Collection[str]) -> list[Any]:
    return [
        field
        for field in model._meta.concrete_fields
        if isinstance(field, DerivedColumn) and set(field.source_fields) & set(names)
    ]


def _batches(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(keys), _BATCH):
        yield keys[start : start + _BATCH]
