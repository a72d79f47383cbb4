"""Signed links to export files, for whoever has them, until they expire."""

from __future__ import annotations

from urllib.parse import urlencode, urljoin

from django.core import signing
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound

from myometrics_core.settings import core_settings
from myometrics_core.times import utc_now

from .conf import notifications_settings
from .models import ExportFile

__all__ = ["export_download_url", "export_file_for_token"]

_SALT = "myometrics_notifications.export"
_LONGEST_TOKEN = 1000


def export_download_url(export_id: int) -> str:
    """A public address that gives the file to whoever has it, until it expires."""
    query = urlencode({"token": signing.dumps(export_id, salt=_SALT)})
    path = reverse("myometrics_notifications:export-download")
    return urljoin(core_settings.API_URL, f"{path}?{query}")


def export_file_for_token(token: str) -> ExportFile:
    """The export that ``token`` gives access to.

    Raises ``NotFound`` when it is not ours, has expired, or its owner is gone.
    """
    try:
        if len(token) > _LONGEST_TOKEN:
            raise signing.BadSignature
        lifetime = notifications_settings.EXPORT_LIFETIME
        export_id = signing.loads(token, salt=_SALT, max_age=lifetime)
    except signing.BadSignature:
        raise NotFound(_("This link is not valid (any more).")) from None
    ready = ExportFile.objects.filter(
        pk=export_id, state=ExportFile.State.READY, expires_at__gt=utc_now(), user__isnull=False
    )
    export = ready.select_related("user").first()
    if export is None or not export.user.is_active:  # type: ignore[union-attr]
        raise NotFound(_("This link is not valid (any more)."))
    return export
