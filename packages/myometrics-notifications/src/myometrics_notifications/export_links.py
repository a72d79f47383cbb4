"""Signed links to export files, for whoever has them, until they expire."""

from __future__ import annotations

from myometrics_core.times import utc_now

from .conf import notifications_settings
from .models import ExportFile
from .signed_links import SignedLink, link_not_valid

__all__ = ["export_download_url", "export_file_for_token"]

_LINK = SignedLink(
    url_name="myometrics_notifications:export-download", salt="myometrics_notifications.export"
)


def export_download_url(export_id: int) -> str:
    """A public address that gives the file to whoever has it, until it expires."""
    return _LINK.url(export_id)


def export_file_for_token(token: str) -> ExportFile:
    """The export that ``token`` gives access to.

    Raises ``NotFound`` when it is not ours, has expired, or its owner is gone.
    """
    export_id = _LINK.read(token, max_age=notifications_settings.EXPORT_LIFETIME)
    ready = ExportFile.objects.filter(
        pk=export_id, state=ExportFile.State.READY, expires_at__gt=utc_now(), user__isnull=False
    )
    export = ready.select_related("user").first()
    if export is None or not export.user.is_active:  # type: ignore[union-attr]
        raise link_not_valid()
    return export
