"""Base class of the services that uploads are pulled from.

``MYOMETRICS_ANALYTICS["UPLOAD_SOURCE"]`` names the class; the default is
:class:`myometrics_analytics.pull.ImageService`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..facts.upload_event import UploadEvent


class SourceUnavailable(Exception):
    """The source returned no usable response; the message is the reason for the log."""


@dataclass(frozen=True)
class Validators:
    """Validators of a response for conditional requests (HTTP ``ETag`` and ``Last-Modified``)."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True)
class BadRow:
    """An invalid row: its position in the response, counted from 1, and the reason."""

    number: int
    reason: str


@dataclass(frozen=True)
class Listing:
    """One response: an iterator of rows, or ``is_unchanged`` since ``validators``.

    In a row of an unknown user, ``user_id`` matches no user or is ``None``. A row can name the user
    by ``address`` instead.
    """

    rows: Iterator[UploadEvent | BadRow] = field(default_factory=lambda: iter(()))
    validators: Validators = Validators()
    is_unchanged: bool = False


class UploadSource(ABC):
    """A service that can list all uploads."""

    @abstractmethod
    def is_configured(self) -> bool:
        """Return whether the site has configured this service."""

    @abstractmethod
    def fetch(self, validators: Validators) -> Listing:
        """List all uploads, in constant memory.

        ``validators`` are those of the last complete response; empty ones request everything.
        Raises :class:`SourceUnavailable` here or during iteration; rows already read are kept.
        """
