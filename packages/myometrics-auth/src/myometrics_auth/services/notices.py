"""Security notices: mails to users about changes to the security of their account.

Notices contain no text that a client sent: time and family of the device, no address and no name.
"""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _

from myometrics_auth.conf import auth_settings
from myometrics_auth.device_families import device_family
from myometrics_auth.models import User
from myometrics_auth.requests import AnyRequest
from myometrics_core.http import user_agent
from myometrics_core.jobs import enqueue
from myometrics_core.users import user_id_json

SEND_NOTICE: Final = "myometrics_auth.send_security_notice"
"""Name of the job that mails one notice."""

NOTICES: Final = {
    "email_changed": _("The e-mail address of your account was changed"),
    "identity_linked": _("A sign-in by an identity provider was linked to your account"),
    "identity_unlinked": _("A sign-in by an identity provider was removed from your account"),
    "new_device": _("Someone signed in to your account on a new device"),
    "passkey_added": _("A passkey was added to your account"),
    "passkey_removed": _("A passkey was removed from your account"),
    "password_changed": _("Your password was changed"),
    "password_reset": _("Your password was reset by the link of a mail"),
    "password_set": _("An administrator changed the password of your account"),
    "recovery_code_used": _("A recovery code of your account was used"),
    "recovery_codes_replaced": _("The recovery codes of your account were replaced"),
    "refresh_token_reused": _("A session of your account was ended: its token was used twice"),
    "second_factor_disabled": _("The second factor of your account was turned off"),
    "second_factor_enabled": _("A second factor was turned on for your account"),
    "second_factor_removed": _("An administrator removed the second factor of your account"),
}
"""The first sentence of each notice, without its full stop; also the subject."""


def notice_send(*, user: User, notice: str, request: AnyRequest | None, address: str = "") -> None:
    """Enqueue a notice in the caller's transaction; ``address`` replaces the user's own.

    The mail names the family of the requesting device; pass no request if it is not the user's.
    Raises ``LookupError`` for a notice that is not in ``NOTICES``.
    """
    if notice not in NOTICES:
        raise LookupError(f"no notice is named {notice!r}")
    if not auth_settings.SECURITY_NOTICES:
        return
    payload = {
        "user": user_id_json(user.pk),
        "notice": notice,
        "device": "" if request is None else device_family(user_agent(request, max_length=512)),
        "address": address,
    }
    enqueue(SEND_NOTICE, payload)
