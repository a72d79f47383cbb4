"""Create and verify the links of mails about invitations, addresses and security notices.

They are signed, and name a row. Its state makes them work once.
"""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.utils.crypto import constant_time_compare
from rest_framework.exceptions import NotFound

from myometrics_core.api import SignedLink, link_not_valid
from myometrics_core.conf import core_settings
from myometrics_core.users import keyed_hash, keyed_hashes, parse_user_id

from .conf import auth_settings
from .models import EmailChange, Invitation, User
from .models.addresses import CONFIRM_WITHIN, UNDO_WITHIN

NOTICE_LINK_LIFETIME: Final = timedelta(days=7)

_VERIFICATION = SignedLink(
    url_name="myometrics_auth:verify-email-confirm", salt="myometrics_auth.verify_email"
)
_CONFIRMATION = SignedLink(
    url_name="myometrics_auth:email-confirm", salt="myometrics_auth.confirm_email_change"
)
_UNDO = SignedLink(url_name="myometrics_auth:email-undo", salt="myometrics_auth.undo_email_change")
_NOTICE = SignedLink(url_name="myometrics_auth:secure-account", salt="myometrics_auth.notice_links")
# Leads to the front end, so its route is never used.
_INVITATION = SignedLink(url_name="myometrics_auth:register", salt="myometrics_auth.invitation")


def verification_url(user: User) -> str:
    """Return the URL of the page that verifies the user's address; it contains no address."""
    return _VERIFICATION.url([str(user.pk), keyed_hash("verification", user.email_canonical)])


def user_of_verification_link(token: str) -> User:
    """Return the active user whose address is not verified yet; raise ``NotFound``."""
    user_id, address = _VERIFICATION.read(token, max_age=CONFIRM_WITHIN)
    unverified = get_user_model().objects.filter(verified_at=None, is_active=True)
    user = unverified.filter(pk=parse_user_id(user_id)).first()
    if user is None or address not in keyed_hashes("verification", user.email_canonical):
        raise link_not_valid()
    return user


def confirmation_url(change: EmailChange) -> str:
    """Return the URL of the page that confirms the new address."""
    return _CONFIRMATION.url(str(change.pk))


def email_change_of_link(token: str) -> EmailChange:
    """Return the pending change of an active user, with the user; raise ``NotFound``."""
    key = uuid.UUID(_CONFIRMATION.read(token, max_age=CONFIRM_WITHIN))
    return _change(EmailChange.objects.pending(), key)


def undo_url(change: EmailChange) -> str:
    """Return the URL of the page that undoes the change."""
    return _UNDO.url(str(change.pk))


def undoable_change_of_link(token: str) -> EmailChange:
    """Return the confirmed change of an active user, with the user; raise ``NotFound``."""
    key = uuid.UUID(_UNDO.read(token, max_age=UNDO_WITHIN))
    return _change(EmailChange.objects.undoable(), key)


def invitation_url(invitation: Invitation) -> str:
    """Return the URL of the front end's registration page with ``invitation`` in its query."""
    token = _INVITATION.token([str(invitation.pk), invitation.nonce])
    base = str(core_settings.FRONTEND_URL).rstrip("/")
    return f"{base}{auth_settings.INVITATION_PATH}?{urlencode({'invitation': token})}"


def invitation_of_token(token: str) -> Invitation | None:
    """Return the open invitation of a link, with its inviter, else ``None``."""
    try:
        key, nonce = _INVITATION.read(token)
    except NotFound:
        return None
    found = Invitation.objects.open().select_related("inviter").filter(pk=key).first()
    is_current = found is not None and constant_time_compare(found.nonce, nonce)
    return found if is_current else None


def notice_url(user: User, notice_id: str, *, to_former_address: bool = False) -> str:
    """Return the URL of the page that ends all sessions of the user.

    It works while the user's present address is theirs, or was until a change that can be undone:
    an undo ends the links of a thief's mailbox. Links ``to_former_address`` work in any case.
    """
    address = "" if to_former_address else keyed_hash("notice", user.email_canonical)
    return _NOTICE.url([str(user.pk), notice_id, address])


def user_of_notice_link(token: str) -> tuple[User, str]:
    """Return the user and the id of the notice; raise ``NotFound``."""
    user_id, notice_id, address = _NOTICE.read(token, max_age=NOTICE_LINK_LIFETIME)
    user = get_user_model().objects.filter(pk=parse_user_id(user_id)).first()
    if user is None or not (address == "" or _is_address_of(user, address)):
        raise link_not_valid()
    return user, notice_id


def _is_address_of(user: User, address: str) -> bool:
    if address in keyed_hashes("notice", user.email_canonical):
        return True
    former = EmailChange.objects.undoable().filter(user=user)
    return any(
        address in keyed_hashes("notice", old)
        for old in former.values_list("old_canonical", flat=True)
    )


def _change(changes: Any, key: uuid.UUID) -> EmailChange:
    change: EmailChange | None = (
        changes.select_related("user").filter(pk=key, user__is_active=True).first()
    )
    if change is None:
        raise link_not_valid()
    return change
