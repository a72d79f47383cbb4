"""Mail: the site's backend, the connection, composing from templates, classified failures."""

from __future__ import annotations

from .backend import default_mail_backend, default_mail_backend_path
from .connection import MailConnection, MailNotSent, mail_timeout
from .failures import classify_failure
from .mail_checks import register_link_check, register_mail_check
from .messages import PlainHeadersMail, compose_mail, mail_address

__all__ = [
    "MailConnection",
    "MailNotSent",
    "PlainHeadersMail",
    "classify_failure",
    "compose_mail",
    "default_mail_backend",
    "default_mail_backend_path",
    "mail_address",
    "mail_timeout",
    "register_link_check",
    "register_mail_check",
]
