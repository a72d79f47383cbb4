"""The site that sends a message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...log.models import AuditLog


@dataclass(frozen=True)
class Source:
    """The sending site.

    ``host`` is its host name, ``application`` the name of its application, ``site_id`` the name of
    the organization or location, and ``process_id`` identifies the sending process. All may be
    empty.
    """

    host: str
    application: str
    site_id: str = ""
    process_id: str = ""


Format = Callable[[AuditLog, Source], bytes]
"""Renders one entry as the body of one message, without the framing of a transport."""
