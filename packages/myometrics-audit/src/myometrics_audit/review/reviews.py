"""Services of reviews: periods whose findings are decided, and which are then signed off."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Final

from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import router
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _

from myometrics_core.db import atomic_write
from myometrics_core.users import lock_users_shared

from ..audit import record
from .findings import open_findings
from .models import Finding, Review
from .scanning import is_scanned_until

REVIEW_SIGNED_OFF: Final = "review_signed_off"


def review_sign_off(
    *,
    review: Review,
    actor: AbstractBaseUser,
    comment: str = "",
    request: HttpRequest | None = None,
) -> None:
    """Sign off a period: its findings can't be changed any more.

    Raises ``ValidationError`` if the period is not over, not examined or overlaps another one, if a
    finding of it or of the time before is open, or if it is signed off already. Entries that are
    sealed later open findings that the next review needs decided.
    """
    using = router.db_for_write(Review)
    with atomic_write(using):
        lock_users_shared({actor.pk}, using)
        # Locked and read again: its days may have been changed since ``review`` was read.
        stored = Review.objects.using(using).select_for_update(no_key=True).get(pk=review.pk)
        if stored.signed_at is not None:
            raise ValidationError(_("The review is signed off already."))
        validate_period(stored)  # Another one may have been added at the same moment.
        if stored.end >= timezone.localdate(timezone=timezone.get_default_timezone()):
            raise ValidationError(_("The period is not over."))
        end = _midnight(stored.end + timedelta(days=1))
        if not is_scanned_until(end):
            raise ValidationError(
                _("Entries of the period are not examined yet. Run 'manage.py audit_review'.")
            )
        stored.signed_by, stored.signed_at = actor, timezone.now()
        stored.comment = comment.strip()
        stored.save(using=using)
        # Locks the findings: a concurrent decision is in the result, or refused.
        before = Finding.objects.using(using).filter(review=None, happened_at__lt=end)
        count = before.update(review=review)
        is_open = open_findings().using(using).filter(review=review).count()
        if is_open:
            raise ValidationError(_("%d findings are open.") % is_open)
        record(
            actor=actor,
            action=REVIEW_SIGNED_OFF,
            resource=("review", review.pk),
            details={
                "start": str(stored.start),
                "end": str(stored.end),
                "findings": count,
                "comment": stored.comment,
            },
            request=request,
        )
    review.refresh_from_db()


def validate_period(review: Review) -> None:
    """Raise ``ValidationError`` if the days of ``review`` are wrong or belong to another review."""
    if review.start > review.end:
        raise ValidationError({"end": _("The last day is before the first.")})
    others = Review.objects.filter(start__lte=review.end, end__gte=review.start)
    if others.exclude(pk=review.pk).exists():
        raise ValidationError(_("Another review has some of these days."))


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min), timezone.get_default_timezone())
