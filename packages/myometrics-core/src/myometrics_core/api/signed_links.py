"""Links in mails that work without authentication: payloads are signed, not encrypted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urljoin

from django.core import signing
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.exceptions import NotFound

from ..conf.core_settings import core_settings
from .fields import StrictCharField

MAX_TOKEN_LENGTH = 1000
"""Longer than any valid token, in characters."""


@dataclass(frozen=True, kw_only=True)
class SignedLink:
    """A type of link: its route, and the salt that separates its tokens from other types.

    Mails are kept for years: never change the salt or the payload of a released link.
    """

    url_name: str
    salt: str

    def token(self, payload: Any) -> str:
        """Return a token that contains ``payload`` (JSON-serializable): readable, tamper-proof."""
        return signing.dumps(payload, salt=self.salt)

    def url(self, payload: Any) -> str:
        """Return the public URL with such a token, on the host of ``MYOMETRICS["API_URL"]``."""
        query = urlencode({"token": self.token(payload)})
        return urljoin(core_settings.API_URL, f"{reverse(self.url_name)}?{query}")

    def read(self, token: str, *, max_age: timedelta | None = None) -> Any:
        """Return the payload; raises ``NotFound`` if ``token`` is invalid or older than
        ``max_age``.
        """
        try:
            return signing.loads(token, salt=self.salt, max_age=max_age)
        except signing.BadSignature:
            raise link_not_valid() from None


def link_not_valid() -> NotFound:
    """Return the error for every invalid link: the same for all reasons."""
    return NotFound(_("This link is not valid (any more)."))


class LinkQuerySerializer(serializers.Serializer[Any]):
    """The query of a mailed link: its signed token."""

    token = StrictCharField(max_length=MAX_TOKEN_LENGTH)
