"""Mail: the site's backend, classification of failures, headers."""

from __future__ import annotations

from .backend import default_mail_backend, default_mail_backend_path
from .failures import SendFailure, classify_failure
from .mail_checks import register_mail_check
from .messages import PlainHeadersMail

__all__ = [
    "PlainHeadersMail",
    "SendFailure",
    "classify_failure",
    "default_mail_backend",
    "default_mail_backend_path",
    "register_mail_check",
]
