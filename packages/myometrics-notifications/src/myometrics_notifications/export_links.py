"""Signed links to export files: they need no sign-in, and expire.

A link is bound to the password that its owner had when it was mailed, so that a changed password
ends the links that somebody may have found in a mailbox.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.utils.crypto import constant_time_compare

from myometrics_core.times import utc_now

from .conf import notifications_settings
from .models import ExportFile
from .signed_links import SignedLink, link_not_valid

__all__ = ["export_download_url", "export_file_for_token"]

_LINK = SignedLink(
    url_name="myometrics_notifications:export-download", salt="myometrics_notifications.export"
)


def export_download_url(export_id: int, *, user: Any) -> str:
    """A public address of the file of ``user``, good until it expires or the password changes."""
    return _LINK.url([export_id, _password_fingerprint(user)])


def export_file_for_token(token: str) -> ExportFile:
    """The export that ``token`` gives access to.

    Raises ``NotFound`` when it is not ours, has expired, or its owner is gone, inactive, or has
    another password now.
    """
    payload = _LINK.read(token, max_age=notifications_settings.EXPORT_LIFETIME)
    # Links of version 0.1 hold the id alone, and expire within EXPORT_LIFETIME.
    export_id, fingerprint = payload if isinstance(payload, list) else (payload, None)
    ready = ExportFile.objects.filter(
        pk=export_id, state=ExportFile.State.READY, expires_at__gt=utc_now(), user__isnull=False
    )
    export = ready.select_related("user").first()
    if export is None or not export.user.is_active:  # type: ignore[union-attr]
        raise link_not_valid()
    if fingerprint and not constant_time_compare(_password_fingerprint(export.user), fingerprint):
        raise link_not_valid()
    return export


def _password_fingerprint(user: Any) -> str:
    # Of the salted hash, so it says nothing about the password to who reads the link. A site's user
    # model may have no password.
    password = getattr(user, "password", "")
    return hashlib.sha256(f"export link\0{password}".encode()).hexdigest()[:32]
