"""Links in mails that work without signing in: what one is about is signed, not hidden."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urljoin

from django.core import signing
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound

from myometrics_core.settings import core_settings

__all__ = ["LONGEST_TOKEN", "SignedLink", "link_not_valid"]

LONGEST_TOKEN = 1000
"""More than any token of ours has characters."""


@dataclass(frozen=True, kw_only=True)
class SignedLink:
    """One kind of link: where it leads, and the salt that tells its tokens from other kinds'.

    Mails are kept for years: a salt, once it has been sent, stays as it is, and so do the payloads.
    """

    url_name: str
    salt: str

    def token(self, payload: Any) -> str:
        """A token that bears ``payload`` (JSON-like): all can read it, nobody can forge it."""
        return signing.dumps(payload, salt=self.salt)

    def url(self, payload: Any) -> str:
        """The public address with such a token, on the host of ``MYOMETRICS["API_URL"]``."""
        query = urlencode({"token": self.token(payload)})
        return urljoin(core_settings.API_URL, f"{reverse(self.url_name)}?{query}")

    def read(self, token: str, *, max_age: timedelta | None = None) -> Any:
        """The payload; raises ``NotFound`` when ``token`` isn't ours or is older than that."""
        try:
            return signing.loads(token, salt=self.salt, max_age=max_age)
        except signing.BadSignature:
            raise link_not_valid() from None


def link_not_valid() -> NotFound:
    """The one answer to every link that leads nowhere, whatever the reason."""
    return NotFound(_("This link is not valid (any more)."))
