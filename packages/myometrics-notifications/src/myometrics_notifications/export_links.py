"""Signed links to export files: no authentication needed, limited lifetime.

A link contains a fingerprint of the owner's password hash: changing the password revokes links that
an intruder may have found in the mailbox.
"""

from __future__ import annotations

import hashlib

from django.contrib.auth.base_user import AbstractBaseUser
from django.utils.crypto import constant_time_compare

from myometrics_core.api import SignedLink, link_not_valid
from myometrics_core.times import utc_now

from .conf import notifications_settings
from .models import ExportFile

_LINK = SignedLink(
    url_name="myometrics_notifications:export-download", salt="myometrics_notifications.export"
)


def export_download_url(export_id: int, *, user: AbstractBaseUser) -> str:
    """Return a public URL of the file; valid until it expires or ``user`` changes the password."""
    return _LINK.url([export_id, _password_fingerprint(user)])


def export_file_for_token(token: str) -> ExportFile:
    """Return the export that ``token`` gives access to.

    Raises ``NotFound`` if the token is invalid or expired, or if the owner is deleted, inactive or
    has changed the password.
    """
    payload = _LINK.read(token, max_age=notifications_settings.EXPORT_LIFETIME)
    # Links of version 0.1 contain only the id; they expire within EXPORT_LIFETIME.
    export_id, fingerprint = payload if isinstance(payload, list) else (payload, None)
    ready = ExportFile.objects.filter(
        pk=export_id, state=ExportFile.State.READY, expires_at__gt=utc_now(), user__isnull=False
    )
    export = ready.select_related("user").first()
    if export is None or export.user is None or not export.user.is_active:
        raise link_not_valid()
    if fingerprint and not constant_time_compare(_password_fingerprint(export.user), fingerprint):
        raise link_not_valid()
    return export


def _password_fingerprint(user: AbstractBaseUser) -> str:
    # A fingerprint of the salted hash reveals nothing about the password. Custom user models may
    # have no password.
    password = getattr(user, "password", "")
    return hashlib.sha256(f"export link\0{password}".encode()).hexdigest()[:32]
