"""Emergency access ("break the glass"): grant it, and check it in permissions of the API.

Each grant is an entry of the log and a finding, which reviewers must decide.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import router
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from rest_framework.mixins import (
    CreateModelMixin,
    DestroyModelMixin,
    ListModelMixin,
    RetrieveModelMixin,
    UpdateModelMixin,
)
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.views import APIView

from myometrics_core.db import atomic_write
from myometrics_core.texts import is_storable
from myometrics_core.times import utc_text, whole_milliseconds
from myometrics_core.users import UserLike, lock_users_shared

from ..audit import ActorDeleted, record
from ..conf import audit_settings
from ..log.models import OPTIONAL_LENGTHS
from ..tracking.declarations import is_recorded, recorded_model
from ..tracking.stored_rows import data_subjects
from .findings import findings_open, open_findings
from .models import EmergencyAccess
from .rules import Entry, Hit, registered_rules

__all__ = [
    "EMERGENCY_PURPOSE",
    "HasEmergencyAccess",
    "end_emergency_access",
    "grant_emergency_access",
    "has_emergency_access",
]

EMERGENCY_PURPOSE: Final = "BTG"
"""The purpose of entries under emergency access: "break the glass" in HL7's PurposeOfUse."""
EMERGENCY_ACCESS_GRANTED: Final = "emergency_access_granted"
EMERGENCY_ACCESS_ENDED: Final = "emergency_access_ended"
MAX_REASON_LENGTH: Final = 1000
MAX_SUBJECT_LENGTH: Final = OPTIONAL_LENGTHS["data_subject"]
RULE: Final = "emergency_access"


def grant_emergency_access(
    actor: AbstractBaseUser,
    subject: str,
    reason: str,
    minutes: int,
    *,
    request: HttpRequest | Request | None = None,
) -> EmergencyAccess:
    """Grant ``actor`` access to the data subject ``subject`` for ``minutes``, from now on.

    Writes the entry ``emergency_access_granted`` and opens a finding, in one transaction. Check
    before that the user may use emergency access at all. Raises ``ValidationError`` for an empty
    subject or reason, and for minutes that are not from 1 to ``EMERGENCY_ACCESS_MAX_MINUTES``;
    ``ActorDeleted`` if the user doesn't exist any more.
    """
    reason = reason.strip()
    _validate(subject, reason, minutes)
    using = router.db_for_write(EmergencyAccess)
    with atomic_write(using):
        # The foreign keys are checked only at the commit.
        if not lock_users_shared({actor.pk}, using):
            raise ActorDeleted("The acting user was deleted.")
        now = whole_milliseconds(timezone.now())
        expires_at = now + timedelta(minutes=minutes)
        entry = record(
            actor=actor,
            action=EMERGENCY_ACCESS_GRANTED,
            resource=("data_subject", subject),
            details={"reason": reason, "minutes": minutes, "expires_at": utc_text(expires_at)},
            request=request,
            data_subject=subject,
            purpose=EMERGENCY_PURPOSE,
        )
        hit = Hit(
            key=str(entry.pk),
            entry=Entry(**{name: getattr(entry, name) for name in Entry._fields}),
            user_id=actor.pk,
            data_subject=subject,
            details={"minutes": minutes},
        )
        (finding,) = findings_open([(registered_rules()[RULE], hit)], using=using)
        return EmergencyAccess.objects.using(using).create(
            actor_id=actor.pk,
            data_subject=subject,
            reason=reason,
            granted_at=now,
            expires_at=expires_at,
            finding=finding,
        )


def end_emergency_access(
    grant: EmergencyAccess,
    actor: AbstractBaseUser,
    *,
    request: HttpRequest | Request | None = None,
) -> None:
    """End a grant now, before it expires; its finding stays. ``actor`` is the user who ends it.

    Writes the entry ``emergency_access_ended``. Raises ``ValidationError`` if the grant is over.
    """
    using = router.db_for_write(EmergencyAccess)
    with atomic_write(using):
        lock_users_shared({actor.pk}, using)
        now = whole_milliseconds(timezone.now())
        running = EmergencyAccess.objects.using(using).filter(pk=grant.pk, expires_at__gt=now)
        if not running.update(expires_at=now):
            raise ValidationError(_("The emergency access is over already."))
        record(
            actor=actor,
            action=EMERGENCY_ACCESS_ENDED,
            resource=("data_subject", grant.data_subject),
            request=request,
            data_subject=grant.data_subject,
            purpose=EMERGENCY_PURPOSE,
        )
    grant.expires_at = now


def has_emergency_access(actor: UserLike, subject: str) -> bool:
    """Return whether ``actor`` has emergency access to ``subject`` now; one query."""
    now = timezone.now()
    grants = EmergencyAccess.objects.filter(actor=actor.pk, data_subject=subject)
    return (
        isinstance(actor, get_user_model())  # other principals may have equal keys
        and actor.pk is not None
        and actor.is_active
        and grants.filter(granted_at__lte=now, expires_at__gt=now).exists()
    )


def overdue_emergency_accesses() -> QuerySet[EmergencyAccess]:
    """Return the grants whose finding is still open after ``EMERGENCY_ACCESS_REVIEW``."""
    before = timezone.now() - audit_settings.EMERGENCY_ACCESS_REVIEW
    return EmergencyAccess.objects.filter(finding__in=open_findings(), granted_at__lte=before)


class HasEmergencyAccess(IsAuthenticated):
    """DRF permission: the user has emergency access to the object's data subject.

    Use it beside your own permission: ``permission_classes = [HasCareRelation |
    HasEmergencyAccess]``. It allows only generic views and routes of viewsets that are about one
    object, and views with the attribute ``detail = True``, which must call
    ``check_object_permissions``. The data subject comes from where ``RecordedViewMixin`` takes it:
    the view's method ``get_audit_subject(obj)``, its ``audit_subject``, or ``recorded()`` of the
    model. A view with none of them raises ``ImproperlyConfigured``; objects without a data subject
    are denied. If access is allowed, ``request.purpose`` is :data:`EMERGENCY_PURPOSE`, for the
    entries that the view writes.
    """

    message = gettext_lazy("You need a care relation or emergency access.")

    def has_permission(self, request: Request, view: APIView) -> bool:
        return _is_about_one_object(view) and super().has_permission(request, view)

    def has_object_permission(self, request: Request, view: APIView, obj: Any) -> bool:
        subject = _data_subject(view, obj)
        is_allowed = bool(subject) and has_emergency_access(request.user, subject)
        if is_allowed:
            request.purpose = EMERGENCY_PURPOSE  # type: ignore[attr-defined]
        return is_allowed


def _data_subject(view: APIView, obj: Any) -> str:
    """Return the data subject of ``obj``, ``""`` if it has none; never a default that can match."""
    hook = getattr(view, "get_audit_subject", None)
    subject = hook(obj) if hook else None
    if subject is not None:
        return str(subject)
    model = type(obj)
    declared = recorded_model(model).data_subject if is_recorded(model) else ""
    path = getattr(view, "audit_subject", "") or declared
    if not hook and not path:
        raise ImproperlyConfigured(
            f"{type(view).__name__} uses HasEmergencyAccess. Define get_audit_subject(obj) or "
            "audit_subject: the data subject of an object."
        )
    return data_subjects([obj], path)[0]


def _is_about_one_object(view: APIView) -> bool:
    """Return whether the view checks an object: a list would be allowed without any check."""
    is_detail: bool | None = getattr(view, "detail", None)  # set by routers of viewsets
    if is_detail is not None:
        return is_detail
    one = (RetrieveModelMixin, UpdateModelMixin, DestroyModelMixin)
    return isinstance(view, one) and not isinstance(view, (ListModelMixin, CreateModelMixin))


def _validate(subject: str, reason: str, minutes: int) -> None:
    problems = {}
    if not 1 <= len(subject) <= MAX_SUBJECT_LENGTH or not is_storable(subject):
        problems["subject"] = _("Give the id of the data subject.")
    if not reason or len(reason) > MAX_REASON_LENGTH or not is_storable(reason):
        problems["reason"] = _("Give a reason of at most %d characters.") % MAX_REASON_LENGTH
    longest = audit_settings.EMERGENCY_ACCESS_MAX_MINUTES
    if isinstance(minutes, bool) or not 1 <= minutes <= longest:
        problems["minutes"] = _("Give a number of minutes from 1 to %d.") % longest
    if problems:
        raise ValidationError(problems)
