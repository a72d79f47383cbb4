"""Place and release legal holds. Both are entries of the log."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import router
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.request import Request

from myometrics_core.texts import is_storable
from myometrics_core.users import lock_users_shared_unless_busy

from ..audit import record
from ..log.models import OPTIONAL_LENGTHS
from ..sealing.locks import evidence_lock
from .models import MAX_REASON_LENGTH, LegalHold

__all__ = ["hold_place", "hold_release"]

LEGAL_HOLD_PLACED: Final = "legal_hold_placed"
LEGAL_HOLD_RELEASED: Final = "legal_hold_released"
MAX_SUBJECT_LENGTH: Final = OPTIONAL_LENGTHS["data_subject"]


def hold_place(
    *,
    actor: AbstractBaseUser,
    reason: str,
    user: AbstractBaseUser | None = None,
    data_subject: str = "",
    request: HttpRequest | Request | None = None,
) -> LegalHold:
    """Keep the entries of ``user``, or about ``data_subject``, also those written later.

    Waits for an erasure that is running. Writes the entry ``legal_hold_placed``. Raises
    ``ValidationError`` if not exactly one of both is given, without a reason, and for a user who
    was deleted or is being changed or deleted.
    """
    reason = reason.strip()
    validate_hold(user=user, data_subject=data_subject, reason=reason)
    using = router.db_for_write(LegalHold)
    with evidence_lock(using):
        _lock_users({actor.pk, *([user.pk] if user else [])}, using)
        hold = LegalHold.objects.using(using).create(
            user_id=user.pk if user else None,
            data_subject=data_subject,
            reason=reason,
            placed_by_id=actor.pk,
        )
        details = {"reason": reason, **({"user_id": str(user.pk)} if user else {})}
        _record(hold, LEGAL_HOLD_PLACED, actor, details, request)
    return hold


def hold_release(
    hold: LegalHold,
    *,
    actor: AbstractBaseUser,
    request: HttpRequest | Request | None = None,
) -> None:
    """Release a hold: its entries can be erased again, unless another one keeps them.

    Writes the entry ``legal_hold_released``. Raises ``ValidationError`` if it was released before.
    """
    using = router.db_for_write(LegalHold)
    with evidence_lock(using):
        _lock_users({actor.pk}, using)
        now = timezone.now()
        active = LegalHold.objects.using(using).filter(pk=hold.pk, released_at=None)
        if not active.update(released_at=now, released_by_id=actor.pk):
            raise ValidationError(_("The legal hold is released already."))
        _record(hold, LEGAL_HOLD_RELEASED, actor, {}, request)
    hold.released_at, hold.released_by = now, actor


def validate_hold(*, user: AbstractBaseUser | None, data_subject: str, reason: str) -> None:
    """Raise ``ValidationError``, by field, for values that no hold can have."""
    problems = {}
    if (user is None) == (not data_subject):
        problems["data_subject"] = _("Give either a user or a data subject.")
    elif len(data_subject) > MAX_SUBJECT_LENGTH or not is_storable(data_subject):
        problems["data_subject"] = _("Give the id of the data subject.")
    if not reason.strip() or len(reason) > MAX_REASON_LENGTH or not is_storable(reason):
        problems["reason"] = _("Give a reason of at most %d characters.") % MAX_REASON_LENGTH
    if problems:
        raise ValidationError(problems)


def _lock_users(user_ids: set[Any], using: str) -> None:
    # Without waiting: deletions take the locks of users and of the evidence in either order.
    locked, busy = lock_users_shared_unless_busy(user_ids, using)
    if busy:
        raise ValidationError(_("The user is being changed or deleted. Try again."))
    if locked != user_ids:
        raise ValidationError(_("The user was deleted."))


def _record(
    hold: LegalHold,
    action: str,
    actor: AbstractBaseUser,
    details: dict[str, Any],
    request: HttpRequest | Request | None,
) -> None:
    record(
        actor=actor,
        action=action,
        resource=("legal_hold", hold.pk),
        details=details,
        request=request,
        data_subject=hold.data_subject,
    )
