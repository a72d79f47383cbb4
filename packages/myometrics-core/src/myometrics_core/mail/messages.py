"""Mails whose long headers are not folded."""

from __future__ import annotations

from email.headerregistry import HeaderRegistry, UniqueUnstructuredHeader
from email.policy import EmailPolicy, default
from typing import Any, Final

import django
from django.core.mail import EmailMultiAlternatives

__all__ = ["PlainHeadersMail"]

MAX_LINE_LENGTH: Final = 998
"""RFC 5322, section 2.1.1."""
UNFOLDED_HEADERS: Final = ("List-Unsubscribe",)


class PlainHeadersMail(EmailMultiAlternatives):
    """A mail whose ``List-Unsubscribe`` stays one line with a plain ``<https://…>``.

    Mail clients expect that format. Python folds a header longer than 78 characters, and since
    Django 6 text that can't be folded becomes RFC 2047 encoded words, which clients don't parse as
    a URL.
    """

    def message(self, **options: Any) -> Any:
        """Return the mail as a Python message; accepts the base class's arguments."""
        if django.VERSION < (6, 0):
            message = super().message(**options)
            message.policy = message.policy.clone(max_line_length=MAX_LINE_LENGTH)
            return message
        policy: EmailPolicy = options.pop("policy", default)
        return super().message(policy=policy.clone(header_factory=_headers()), **options)


class _UnfoldedHeader(UniqueUnstructuredHeader):
    def fold(self, *, policy: Any) -> str:
        line = f"{self.name}: {self}{policy.linesep}"  # type: ignore[attr-defined]
        return line if line.isascii() else super().fold(policy=policy)  # type: ignore[misc]


def _headers() -> HeaderRegistry:
    registry = HeaderRegistry()
    for name in UNFOLDED_HEADERS:
        registry.map_to_type(name, _UnfoldedHeader)  # type: ignore[arg-type]
    return registry
