"""Background jobs of auth: mails about accounts, security notices, and the hourly sweep."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.contrib.auth import get_user_model
from django.core.mail import EmailMessage

from myometrics_core.api import rate_limiter
from myometrics_core.jobs import Job, JobKind, RetryPolicy, every
from myometrics_core.mail import MailConnection, classify_failure, compose_mail
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email, parse_user_id

from .account_links import (
    NOTICE_LINK_LIFETIME,
    confirmation_url,
    invitation_url,
    notice_url,
    undo_url,
    verification_url,
)
from .conf import auth_settings
from .models import AddressOwnership, EmailChange, Invitation, User
from .models.addresses import UNDO_WITHIN
from .reset_links import reset_link
from .services.devices import devices_sweep
from .services.login_throttle import login_throttle_sweep
from .services.notices import NOTICES, SEND_NOTICE
from .services.sessions import sessions_sweep
from .services.sign_in import used_tokens_sweep
from .sign_in_methods import count_sign_in_methods

logger = logging.getLogger("myometrics.auth")

MAX_MAILS: Final = "20/hour"
"""Mails of a kind per address; limits mailbox flooding from many client addresses."""
MAX_NOTICES: Final = "20/hour"
"""Security notices per user."""
NOTICE = "myometrics_auth/security_notice"


class MailJob(JobKind):
    """Base of jobs that send one mail.

    Neither the address nor the mail server's response, which repeats it, is logged.
    """

    lease = timedelta(minutes=2)
    retry = RetryPolicy(max_attempts=30, base=timedelta(minutes=1), cap=timedelta(minutes=5))

    @abstractmethod
    def mail(self, job: Job) -> Callable[[], EmailMessage] | None:
        """Return a function that composes the mail; ``None``: nothing is sent."""

    def run(self, job: Job) -> None:
        compose = self.mail(job)
        if compose is None:
            return
        try:
            mail = compose()
            with MailConnection() as connection:
                connection.send(mail)
        except Exception as error:
            raise classify_failure(error) from None

    def on_dead(self, job: Job) -> None:
        Job.objects.filter(pk=job.pk).delete()  # a dead letter would keep the address

    @staticmethod
    def is_over_limit(job: Job, rate: str, scope: str, key: str) -> bool:
        """Count the first attempt in a limit; return whether the mail must not be sent."""
        if job.attempts > 1 or rate_limiter.hit(rate, scope, key).allowed:
            return False
        logger.warning("%s is over the limit of its address or user", job)
        return True


class AccountMail(MailJob):
    """Base of mails about an account: one link, once, within ``max_age``, at most 20 an hour.

    ``template`` is the start of the names of two templates. The mail contains nothing that a client
    wrote.
    """

    max_age: ClassVar[timedelta] = timedelta(hours=1)
    template: ClassVar[str]
    limit: ClassVar[str]
    """Scope of the limit per address."""

    @abstractmethod
    def recipient(self, job: Job) -> tuple[Any, User] | None:
        """Return what the link is about and the user it is mailed to; ``None``: no mail."""

    @abstractmethod
    def link(self, subject: Any) -> str:
        """Return the link."""

    def language(self, subject: Any, user: User) -> str:
        return str(auth_settings.RECIPIENT_LANGUAGE(user))

    def mail(self, job: Job) -> Callable[[], EmailMessage] | None:
        if utc_now() - job.created_at > self.max_age:
            logger.warning("%s is too old to be mailed", job)
            return None
        found = self.recipient(job)
        if found is None:
            return None
        subject, user = found
        if self.is_over_limit(job, MAX_MAILS, self.limit, canonical_email(user.email)):
            return None
        return lambda: compose_mail(
            user,
            mail_id=f"{self.limit.removesuffix(' mails').replace(' ', '-')}-{job.key}",
            subject=f"myometrics_auth/{self.template}_subject.txt",
            body=f"myometrics_auth/{self.template}_body.txt",
            context=lambda: {"user": user, "link": self.link(subject)},
            language=self.language(subject, user),
        )


class SendPasswordReset(AccountMail):
    """Mail a reset link to the account of an address.

    Unknown addresses and inactive users get no mail, nor do users without a password, unless they
    sign in by other means: this is how they get one. The payload is
    ``{"email": canonical address}``: the request does not look the account up, so that it takes the
    same time for known and unknown addresses.
    """

    name = "myometrics_auth.send_password_reset"
    template, limit = "password_reset", "reset mails"

    def recipient(self, job: Job) -> tuple[Any, User] | None:
        user = _user_of(job)
        return (user, user) if user is not None and count_sign_in_methods(user) else None

    def link(self, subject: Any) -> str:
        return reset_link(subject)


class SendVerification(AccountMail):
    """Mail the link that verifies the address of an account; the payload is that of resets.

    Unknown and verified addresses and inactive users get no mail.
    """

    name = "myometrics_auth.send_verification"
    max_age = timedelta(days=1)
    template, limit = "verify_email", "verification mails"

    def recipient(self, job: Job) -> tuple[Any, User] | None:
        user = _user_of(job)
        return (user, user) if user is not None and user.verified_at is None else None

    def link(self, subject: Any) -> str:
        return verification_url(subject)


class SendInvitation(AccountMail):
    """Mail an invitation; the payload is ``{"invitation": its id}``.

    It is written in the inviter's language.
    """

    name = "myometrics_auth.send_invitation"
    template, limit = "invitation", "invitation mails"

    def recipient(self, job: Job) -> tuple[Any, User] | None:
        found = Invitation.objects.open().select_related("inviter")
        invitation = found.filter(pk=job.payload["invitation"]).first()
        return None if invitation is None else (invitation, _addressee(invitation.email))

    def link(self, subject: Any) -> str:
        return invitation_url(subject)

    def language(self, subject: Any, user: User) -> str:
        return str(auth_settings.RECIPIENT_LANGUAGE(subject.inviter))


class SendEmailChange(AccountMail):
    """Mail the link that confirms a change to the new address; payload ``{"change": its id}``."""

    name = "myometrics_auth.send_email_change"
    template, limit = "email_change", "email change mails"

    def recipient(self, job: Job) -> tuple[Any, User] | None:
        changes = EmailChange.objects.pending().select_related("user")
        change = changes.filter(pk=job.payload["change"], user__is_active=True).first()
        return None if change is None else (change, _addressee(change.new_email))

    def link(self, subject: Any) -> str:
        return confirmation_url(subject)

    def language(self, subject: Any, user: User) -> str:
        return str(auth_settings.RECIPIENT_LANGUAGE(subject.user))


class SendEmailUndo(SendEmailChange):
    """Notify the old address of a change, with the link that undoes it, while it works."""

    name = "myometrics_auth.send_email_undo"
    retry = RetryPolicy(max_attempts=200, base=timedelta(minutes=1), cap=timedelta(hours=1))
    max_age = UNDO_WITHIN
    template, limit = "email_changed", "email undo mails"

    def recipient(self, job: Job) -> tuple[Any, User] | None:
        changes = EmailChange.objects.undoable().select_related("user")
        change = changes.filter(pk=job.payload["change"], user__is_active=True).first()
        return None if change is None else (change, _addressee(change.old_email))

    def link(self, subject: Any) -> str:
        return undo_url(subject)


ADDRESS_JOBS: Final = (SendPasswordReset.name, SendVerification.name)
"""Kinds whose payload contains an address."""


class SendSecurityNotice(MailJob):
    """Mail one security notice to an active user.

    The payload is ``{"user", "notice", "device", "address"}``; see ``notice_send``.
    """

    name = SEND_NOTICE
    retry = RetryPolicy(max_attempts=30, base=timedelta(minutes=1), cap=timedelta(hours=1))

    def mail(self, job: Job) -> Callable[[], EmailMessage] | None:
        user_id = parse_user_id(job.payload["user"])
        user = get_user_model().objects.filter(pk=user_id, is_active=True).first()
        address = user and (job.payload["address"] or user.email)
        if user is None or not address:
            return None
        if self.is_over_limit(job, MAX_NOTICES, "notices", str(user.pk)):
            return None
        is_former = canonical_email(address) != user.email_canonical

        def compose() -> EmailMessage:
            mail = compose_mail(
                user,
                mail_id=f"security-notice-{job.key}",
                subject=f"{NOTICE}/subject.txt",
                body=f"{NOTICE}/body.txt",
                html=f"{NOTICE}/body.html",
                context=lambda: {
                    "site_name": auth_settings.MFA_ISSUER,
                    "text": NOTICES[job.payload["notice"]],
                    "at": job.created_at,
                    "device": job.payload["device"],
                    "link": notice_url(user, job.key, to_former_address=is_former),
                    "days": NOTICE_LINK_LIFETIME.days,
                },
                language=auth_settings.RECIPIENT_LANGUAGE(user),
            )
            mail.to = [address]
            return mail

        return compose


class Sweep(JobKind):
    """Delete expired sessions, failed sign-ins, used tokens, invitations and changes of addresses,
    and devices that were not used for long. Adds missing owners of verified addresses.
    """

    name = "myometrics_auth.sweep"
    lease = timedelta(minutes=15)
    schedule = every(timedelta(hours=1))

    def run(self, job: Job) -> None:
        sessions_sweep()
        devices_sweep()
        login_throttle_sweep()
        used_tokens_sweep()
        Invitation.objects.sweepable().delete()
        EmailChange.objects.sweepable().delete()
        AddressOwnership.objects.follow_missed()


def _user_of(job: Job) -> User | None:
    users = get_user_model().objects.filter(is_active=True)
    found: User | None = users.filter(email_canonical=job.payload["email"]).first()
    return found


def _addressee(email: str) -> User:
    # Not saved: the mail goes to an address that no account has.
    addressee: User = get_user_model()(email=email)
    return addressee
