"""Link an identity to the account of its address by a mail to that address."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Final

from django.contrib.auth import get_user_model
from django.db import IntegrityError

from myometrics_auth.events import publish_account_event
from myometrics_auth.models import User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.services.notices import notice_send
from myometrics_auth.services.verification import other_access_remove
from myometrics_core.api import SignedLink, link_not_valid
from myometrics_core.db import atomic_write
from myometrics_core.jobs import enqueue
from myometrics_core.times import utc_now
from myometrics_core.users import canonical_email

from .claims import Claims
from .models import Identity, LinkRequest

SEND_LINK_MAIL: Final = "myometrics_auth.send_link_mail"
VALID_FOR: Final = timedelta(hours=24)
MAIL_INTERVAL: Final = timedelta(hours=1)
"""At most one mail per account in this interval."""
_LINK = SignedLink(
    url_name="myometrics_auth_federation:identity-link", salt="myometrics_auth.federation.link"
)


def link_request_create(*, user: User, claims: Claims) -> None:
    """Enqueue a mail to ``user``, whose row the caller has locked, unless one was sent recently."""
    now = utc_now()
    if LinkRequest.objects.filter(user=user, created_at__gt=now - MAIL_INTERVAL).exists():
        return
    row = LinkRequest.objects.create(
        id=uuid.uuid4(),
        user=user,
        issuer=claims.issuer,
        subject=claims.subject,
        provider=claims.provider.slug,
        email=claims.email,
        created_at=now,
        expires_at=now + VALID_FOR,
    )
    enqueue(SEND_LINK_MAIL, {"request": str(row.pk)}, key=str(row.pk))


def link_url(row: LinkRequest) -> str:
    """Return the URL of the page that the mail links to, on the host of the API."""
    return _LINK.url(str(row.pk))


def link_request_get(token: str) -> LinkRequest:
    """Return the request of a mailed link; raise ``NotFound`` if it is not valid any more."""
    key = _LINK.read(token)
    rows = LinkRequest.objects.select_related("user").filter(expires_at__gt=utc_now())
    row = rows.filter(pk=key).first()
    is_same = row is not None and row.user.email_canonical == canonical_email(row.email)
    if row is None or not is_same or not row.user.is_active:
        raise link_not_valid()
    return row


def link_request_confirm(*, token: str, request: AnyRequest) -> LinkRequest:
    """Link the identity and verify the address; the link works once.

    An account that was never verified loses its sessions, second factors and password: another user
    may have registered it. Raises ``NotFound``.
    """
    try:
        with atomic_write():
            row = link_request_get(token)
            users = get_user_model().objects.select_for_update(no_key=True)
            user = users.filter(pk=row.user_id, is_active=True).first()
            # After the lock: of two requests the second finds no row.
            row = link_request_get(token)
            if user is None:
                raise link_not_valid()
            row.delete()
            if user.verified_at is None:
                _take_over(user, request)
            Identity.objects.create(
                user=user,
                issuer=row.issuer,
                subject=row.subject,
                provider=row.provider,
                email=row.email,
            )
            publish_account_event("identity_linked", user=user, request=request)
            notice_send(user=user, notice="identity_linked", request=request)
    except IntegrityError as error:
        if not Identity.objects.filter(issuer=row.issuer, subject=row.subject).exists():
            raise  # of the site, as by a receiver of a signal
        raise link_not_valid() from error  # linked by other means since
    return row


def _take_over(user: User, request: AnyRequest) -> None:
    other_access_remove(user=user, request=request)
    user.set_unusable_password()
    user.verified_at = utc_now()
    user.save(update_fields=["password", "verified_at"])
    publish_account_event("email_verified", user=user, request=request)
