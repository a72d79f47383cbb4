"""Background jobs of auth: the mail of a password reset, and the hourly sweep."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from django.contrib.auth import get_user_model

from myometrics_core.api import rate_limiter
from myometrics_core.jobs import Job, JobKind, RetryPolicy, every
from myometrics_core.mail import MailConnection, classify_failure, compose_mail
from myometrics_core.times import utc_now

from .conf import auth_settings
from .reset_links import reset_link
from .services.login_throttle import login_throttle_sweep
from .services.sessions import sessions_sweep
from .services.sign_in import used_tokens_sweep

__all__ = ["SendPasswordReset", "Sweep"]

logger = logging.getLogger("myometrics.auth")

MAX_MAILS: Final = "20/hour"
"""Reset mails per address; limits mailbox flooding from many client addresses."""
MAX_AGE: Final = timedelta(hours=1)
"""Older requests are not mailed."""


class SendPasswordReset(JobKind):
    """Mail a reset link to the account of an address.

    Unknown addresses, inactive users and users without a password get no mail. The payload is
    ``{"email": canonical address}``: the request does not look the account up, so that it takes the
    same time for known and unknown addresses. Neither the address nor the mail server's response,
    which repeats it, is logged.
    """

    name = "myometrics_auth.send_password_reset"
    lease = timedelta(minutes=2)
    retry = RetryPolicy(max_attempts=30, base=timedelta(minutes=1), cap=timedelta(minutes=5))

    def run(self, job: Job) -> None:
        if utc_now() - job.created_at > MAX_AGE:
            logger.warning("%s is too old to be mailed", job)
            return
        email = job.payload["email"]
        user = get_user_model().objects.filter(email_canonical=email, is_active=True).first()
        if user is None or not user.has_usable_password():
            return
        is_first = job.attempts == 1
        if is_first and not rate_limiter.hit(MAX_MAILS, "reset mails", email).allowed:
            logger.warning("%s is over the limit of its address", job)
            return
        try:
            mail = compose_mail(
                user,
                mail_id=f"password-reset-{job.key}",
                subject="myometrics_auth/password_reset_subject.txt",
                body="myometrics_auth/password_reset_body.txt",
                context=lambda: {"user": user, "link": reset_link(user)},
                language=auth_settings.RECIPIENT_LANGUAGE(user),
            )
            with MailConnection() as connection:
                connection.send(mail)
        except Exception as error:
            raise classify_failure(error) from None

    def on_dead(self, job: Job) -> None:
        Job.objects.filter(pk=job.pk).delete()  # a dead letter would keep the address


class Sweep(JobKind):
    """Delete sessions past their retention, expired failed sign-ins and expired used tokens."""

    name = "myometrics_auth.sweep"
    lease = timedelta(minutes=15)
    schedule = every(timedelta(hours=1))

    def run(self, job: Job) -> None:
        sessions_sweep()
        login_throttle_sweep()
        used_tokens_sweep()
