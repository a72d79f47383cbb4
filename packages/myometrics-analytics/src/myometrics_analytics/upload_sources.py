"""The extension point for services that uploads are pulled from.

A host names its class in ``MYOMETRICS_ANALYTICS["UPLOAD_SOURCE"]``; the default is
:class:`myometrics_analytics.image_service.ImageService`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from .evidence import Evidence

__all__ = ["BadRow", "Listing", "SourceUnavailable", "UploadSource", "Validators"]


class SourceUnavailable(Exception):
    """The source gives no usable answer now; the message says why, in words for the log."""


@dataclass(frozen=True)
class Validators:
    """What a source says to recognise its answer by (HTTP's ``ETag`` and ``Last-Modified``)."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True)
class BadRow:
    """A row that tells nothing usable: its place in the answer from 1, and why."""

    number: int
    reason: str


@dataclass(frozen=True)
class Listing:
    """One answer: its rows one by one, or word that nothing changed since ``validators``.

    A row of a person who doesn't exist has a ``user_id`` that no user has, or ``None``.
    """

    rows: Iterator[Evidence | BadRow] = field(default_factory=lambda: iter(()))
    validators: Validators = Validators()
    is_unchanged: bool = False


class UploadSource(ABC):
    """A service that can list all uploads."""

    @abstractmethod
    def is_configured(self) -> bool:
        """Whether the site has such a service at all."""

    @abstractmethod
    def fetch(self, validators: Validators) -> Listing:
        """All uploads, in constant memory.

        ``validators`` are those of the last complete answer, empty ones ask for everything. Raises
        :class:`SourceUnavailable` here or while the rows are read; what was read before stands.
        """
