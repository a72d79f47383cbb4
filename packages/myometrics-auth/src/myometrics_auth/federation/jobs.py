"""Background jobs: the mail that links an identity, and the sweep."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from django.core.mail import EmailMessage

from myometrics_auth.conf import auth_settings
from myometrics_auth.jobs import MailJob
from myometrics_core.jobs import Job, JobKind, every
from myometrics_core.mail import compose_mail
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email

from .bearers import foreign_tokens_sweep
from .link_requests import SEND_LINK_MAIL, link_url
from .models import ErasedIdentity, LinkRequest, SecondStep, SignInFlow
from .providers import providers


class SendLinkMail(MailJob):
    """Mail the link that connects an identity to the account of its address.

    The payload is ``{"request": key}``. Nothing is mailed if the request has expired, or for
    another address than the account's present one.
    """

    name = SEND_LINK_MAIL

    def mail(self, job: Job) -> Callable[[], EmailMessage] | None:
        rows = LinkRequest.objects.select_related("user").filter(expires_at__gt=utc_now())
        row = rows.filter(pk=job.payload["request"], user__is_active=True).first()
        names = {provider.slug: provider.name for provider in providers()}
        if row is None or row.provider not in names:
            return None
        if row.user.email_canonical != canonical_email(row.email):
            return None
        return lambda: compose_mail(
            row.user,
            mail_id=f"identity-link-{job.key}",
            subject="myometrics_auth/federation/link_subject.txt",
            body="myometrics_auth/federation/link_body.txt",
            context={"provider": names[row.provider], "link": link_url(row)},
            language=auth_settings.RECIPIENT_LANGUAGE(row.user),
        )


class SweepFederation(JobKind):
    """Delete expired sign-ins, requests, tokens and hashes of erased identities."""

    name = "myometrics_auth.sweep_federation"
    lease = timedelta(minutes=15)
    schedule = every(timedelta(hours=1))

    def run(self, job: Job) -> None:
        foreign_tokens_sweep()
        for model in (SignInFlow, SecondStep, LinkRequest, ErasedIdentity):
            model._default_manager.filter(expires_at__lt=utc_now()).delete()
