"""Send reset mails: once per request, unless a worker dies while sending."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final

from django.contrib.auth import get_user_model
from django.core.mail import send_mail
from django.db.models import Q, QuerySet
from django.template.loader import render_to_string
from django.utils import translation

from myometrics_auth.conf import auth_settings
from myometrics_auth.models import PasswordResetRequest
from myometrics_auth.reset_links import reset_link
from myometrics_core.api import rate_limiter
from myometrics_core.jobs.background import enqueue
from myometrics_core.mail import classify_failure
from myometrics_core.times import utc_now

__all__ = ["reset_mail_send", "reset_mails_sweep"]

logger = logging.getLogger("myometrics.auth")

MAX_MAILS: Final = "20/hour"
"""Reset mails per address; limits mailbox flooding from many client addresses."""
LEASE = timedelta(minutes=2)
"""How long a worker's claim on a request lasts."""
STALE = timedelta(hours=1)
"""Older requests are deleted unsent."""


def reset_mail_send(*, request_id: int) -> bool:
    """Mail the link to the account's stored address; return whether a mail was sent.

    Unknown addresses, inactive users and users without a password get none. The request is then
    deleted; after a temporary failure it stays for the sweep. The log contains neither the address
    nor the server's response, which repeats it.
    """
    request = _claim(request_id)
    if request is None:
        return False
    user = _recipient(request)
    try:
        if user is not None:
            _send(user)
    except Exception as error:
        failure = classify_failure(error)
        logger.warning("Reset request %s was not mailed: %s", request.pk, failure.summary)
        if failure.permanent:
            request.delete()
        return False
    request.delete()
    return user is not None


def reset_mails_sweep() -> int:
    """Enqueue unclaimed requests and delete stale ones; return the number enqueued."""
    PasswordResetRequest.objects.filter(created_at__lt=utc_now() - STALE).delete()
    left = list(_unclaimed().values_list("pk", flat=True)[:1000])
    for request_id in left:
        enqueue("myometrics_auth.send_password_reset", request_id)
    return len(left)


def _claim(request_id: int) -> PasswordResetRequest | None:
    if not _unclaimed().filter(pk=request_id).update(claimed_at=utc_now()):
        return None
    return PasswordResetRequest.objects.filter(pk=request_id).first()


def _unclaimed() -> QuerySet[PasswordResetRequest]:
    is_free = Q(claimed_at=None) | Q(claimed_at__lt=utc_now() - LEASE)
    return PasswordResetRequest.objects.filter(is_free)


def _recipient(request: PasswordResetRequest) -> Any | None:
    users = get_user_model().objects.filter(email_canonical=request.email_canonical, is_active=True)
    user = users.first()
    if user is None or not user.has_usable_password():
        return None
    if not rate_limiter.hit(MAX_MAILS, "reset mails", request.email_canonical).allowed:
        logger.warning("Reset request %s is over the limit of its address", request.pk)
        return None
    return user


def _send(user: Any) -> None:
    with translation.override(auth_settings.RECIPIENT_LANGUAGE(user)):
        send_mail(_subject(user), _body(user), None, [user.email])


def _subject(user: Any) -> str:
    text = render_to_string("myometrics_auth/password_reset_subject.txt", {"user": user})
    return " ".join(text.split())


def _body(user: Any) -> str:
    context = {"user": user, "link": reset_link(user)}
    return render_to_string("myometrics_auth/password_reset_body.txt", context)
