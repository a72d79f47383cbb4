"""Mails to reviewers: numbers only, no patient data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.db.models import Count, Min

from myometrics_core.jobs import enqueue_many
from myometrics_core.mail import MailConnection, classify_failure, compose_mail, mail_address
from myometrics_core.users import site_language, user_id_json

from ..conf import audit_settings
from .emergency_access import overdue_emergency_accesses
from .findings import open_findings
from .rules import registered_rules

REVIEW_MAIL_JOB: Final = "myometrics_audit.review_mail"
PERMISSION: Final = "myometrics_audit_review.decide_finding"


def reviewers() -> list[AbstractBaseUser]:
    """Return the active users who receive the mails, and have an address."""
    if audit_settings.REVIEW_REVIEWERS is not None:
        users: Iterable[AbstractBaseUser] = audit_settings.REVIEW_REVIEWERS()
    elif hasattr(get_user_model(), "user_permissions"):
        any_state: Any = None  # the stubs know only bool
        users = ModelBackend().with_perm(PERMISSION, is_active=any_state, include_superusers=False)
    else:
        users = ()
    # Not in the query: not every user model has a column for it.
    return [user for user in users if user.is_active and mail_address(user)]


def review_mails_enqueue(topic: str, key: object) -> int:
    """Enqueue a mail to each reviewer, in the caller's transaction; return their number.

    ``topic`` is ``alarm`` or ``digest``; each reviewer gets one mail of a topic and ``key``.
    """
    users = [user_id_json(user.pk) for user in reviewers()]
    enqueue_many(
        REVIEW_MAIL_JOB,
        [(f"{topic}-{key}-{user}", {"topic": topic, "user": user}) for user in users],
    )
    return len(users)


def review_mail_send(user: AbstractBaseUser, *, topic: str, mail_id: str) -> None:
    """Mail the numbers of open findings; raises ``JobFailed``."""
    try:
        mail = compose_mail(
            user,
            mail_id=mail_id,
            subject=f"myometrics_audit_review/{topic}_subject.txt",
            body="myometrics_audit_review/review_body.txt",
            context=_numbers,
            language=site_language(user),
        )
        with MailConnection() as connection:
            connection.send(mail)
    except Exception as error:
        raise classify_failure(error) from None


def _numbers() -> dict[str, Any]:
    rules = registered_rules()
    counts = open_findings().order_by().values_list("rule").annotate(Count("pk"))
    return {
        "counts": [(rules[name].title if name in rules else name, n) for name, n in sorted(counts)],
        "oldest": open_findings().aggregate(oldest=Min("opened_at"))["oldest"],
        "overdue": overdue_emergency_accesses().count(),
    }
