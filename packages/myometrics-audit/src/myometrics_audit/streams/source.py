"""This site, as messages name it."""

from __future__ import annotations

import os
import socket

from ..conf import audit_settings
from .formats import Source


def stream_source() -> Source:
    """Return the name of this site and process."""
    values = {"application": "myometrics", "host": socket.gethostname()}
    return Source(**{**values, **audit_settings.STREAM_SOURCE}, process_id=str(os.getpid()))
