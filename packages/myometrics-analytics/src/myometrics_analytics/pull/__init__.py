"""Pulling uploads from the image service or another upload source."""

from __future__ import annotations

from .image_service import ImageService
from .upload_sources import BadRow, Listing, SourceUnavailable, UploadSource, Validators

__all__ = [
    "BadRow",
    "ImageService",
    "Listing",
    "SourceUnavailable",
    "UploadSource",
    "Validators",
]
