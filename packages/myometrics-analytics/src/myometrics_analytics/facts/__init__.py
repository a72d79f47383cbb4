"""Upload facts: upload events, merged into one row per upload, and the changes of the counts."""

from __future__ import annotations

from .services import MergeReport, uploads_merge
from .upload_event import Origin, UploadEvent

__all__ = ["MergeReport", "Origin", "UploadEvent", "uploads_merge"]
