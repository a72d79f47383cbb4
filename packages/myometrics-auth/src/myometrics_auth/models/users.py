"""The user model. Specification: "User Model"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from myometrics_auth.model_fields import CanonicalEmailField, StoredEmailField, UserSearchField
from myometrics_core.db import PortableCharField

from .user_queries import UserQuerySet, with_derived

__all__ = ["AbstractClinicUser", "Role", "User", "UserManager"]


class Role(models.TextChoices):
    """A user's role in the clinic, which determines their permissions."""

    ADMIN = "admin", _("Administrator")
    DOCTOR = "doctor", _("Doctor")
    TECHNICIAN = "technician", _("Technician")


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
        """Create and save a superuser with the role ``admin``."""
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
        changed concurrently.
        """
        checked = self.password

        def renew(password: str) -> None:
            same = type(self)._default_manager.filter(pk=self.pk, password=checked)
            renewed = make_password(password)
            if same.update(password=renewed):
                self.password = renewed

        return check_password(raw_password, checked, renew)

    def set_password(self, raw_password: str | None) -> None:
        """Set the password; ``None`` disables it."""
        if raw_password is None:
            self._record_disabling()
        super().set_password(raw_password)

    def set_unusable_password(self) -> None:
        self._record_disabling()
        super().set_unusable_password()

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; setting or disabling the password ends every session of the user."""
        is_set = self._password is not None  # type: ignore[attr-defined]
        if self._state.adding or not (is_set or self._was_disabled):
            super().save(*args, **kwargs)
        else:
            with transaction.atomic(using=kwargs.get("using")):
                super().save(*args, **kwargs)
                self.sessions.end()  # type: ignore[attr-defined]
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
        ``is_staff``.
        """
        is_role_written = update_fields is None or "role" in update_fields
        if is_role_written and not raw and not self._state.adding:
            changed = self._apply_role(using)
            update_fields = update_fields and [*update_fields, *changed]
        if update_fields is not None:
            update_fields = frozenset(with_derived(type(self), update_fields))
        super().save_base(raw, force_insert, force_update, using, update_fields)

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
