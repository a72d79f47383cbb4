"""The claims of a validated token."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import cached_property
from typing import Any, Final

from myometrics_core.texts import is_storable

from .conf import Provider

LEEWAY: Final = 60.0
"""Seconds that the provider's clock may be ahead. Nothing extends an expired token."""
MAX_SUBJECT_LENGTH: Final = 255
MAX_NAME_LENGTH: Final = 30
MAX_EMAIL_LENGTH: Final = 254


def _no_userinfo() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class Claims:
    """The claims of a validated token of ``provider``; others come from one call of userinfo.

    ``issued_at`` and ``expires_at`` are in seconds since the epoch.
    """

    provider: Provider
    subject: str
    values: Mapping[str, Any]
    issued_at: float
    expires_at: float
    fetch_userinfo: Callable[[], Mapping[str, Any]] = field(default=_no_userinfo)

    @property
    def issuer(self) -> str:
        return self.provider.issuer

    @property
    def provider_session(self) -> str:
        """The provider's ``sid``; ``""`` without one."""
        return self._text("sid", self.values)[:MAX_SUBJECT_LENGTH]

    @property
    def authenticated_at(self) -> datetime | None:
        """When the user signed in to the provider (``auth_time``), if the token says so."""
        moment = self.values.get("auth_time")
        if isinstance(moment, bool) or not isinstance(moment, (int, float)):
            return None
        now = time.time()
        is_past = 0 < moment <= now + LEEWAY
        return datetime.fromtimestamp(min(moment, now), timezone.utc) if is_past else None

    @property
    def has_second_factor(self) -> bool:
        """Whether ``amr`` or ``acr`` contain a value of ``mfa_claims``."""
        methods, context = self.values.get("amr"), self.values.get("acr")
        found = [*(methods if isinstance(methods, list) else [methods]), context]
        return any(isinstance(one, str) and one in self.provider.mfa_claims for one in found)

    @property
    def email(self) -> str:
        """The address; ``""`` without one."""
        address = self._text("email", self._source_of_email)
        return address if len(address) <= MAX_EMAIL_LENGTH else ""

    @property
    def is_email_verified(self) -> bool:
        """Whether the provider says so: ``true``, or ``"true"`` as Google writes it.

        Never for letters that fold to ASCII (the Kelvin sign, ``ｋ``) before the domain: it is
        another mailbox than that of the folded address.
        """
        verified = self._source_of_email.get("email_verified")
        local, at, _domain = self.email.rpartition("@")
        is_plain = bool(at) and local.isascii()
        return is_plain and (verified is True or verified == "true")

    @property
    def verified_email(self) -> str:
        return self.email if self.is_email_verified else ""

    @property
    def names(self) -> tuple[str, str]:
        """First and last name, both cut to 30 characters and both empty without a name.

        A user with one name has it as the first name, and ``-`` as the last name.
        """
        for source in (self.values, self._userinfo):
            given, family = self._text("given_name", source), self._text("family_name", source)
            if not (given or family):
                given, _space, family = self._text("name", source).partition(" ")
            if given or family:
                names = (given, family or "-") if given else (family, "-")
                return (names[0][:MAX_NAME_LENGTH].strip(), names[1][:MAX_NAME_LENGTH].strip())
        return "", ""

    @property
    def role(self) -> str | None:
        """The role by the provider's ``roles``, in their order; ``None`` if none matches."""
        if not self.provider.role_claim:
            return None
        held = self.get(self.provider.role_claim)
        groups = held if isinstance(held, list) else [held]
        return next((role for one, role in self.provider.roles.items() if one in groups), None)

    @property
    def meets_requirements(self) -> bool:
        """Whether every claim of ``required_claims`` has one of the accepted values."""
        return all(
            self._is_accepted(self.get(name), accepted)
            for name, accepted in self.provider.required_claims.items()
        )

    def get(self, name: str) -> Any:
        """Return a claim of the token; one that it does not hold, of userinfo."""
        return self.values[name] if name in self.values else self._userinfo.get(name)

    @staticmethod
    def _is_accepted(held: Any, accepted: Any) -> bool:
        # `True == 1`, but a claim that is true is not the number 1.
        values = held if isinstance(held, list) else [held]
        return any(
            type(one) is type(other) and one == other for one in values for other in accepted
        )

    @cached_property
    def _userinfo(self) -> Mapping[str, Any]:
        found = self.fetch_userinfo()
        # Section 5.3.2 of OpenID Connect Core: without the same subject it may be another user's.
        return found if found.get("sub") == self.subject else {}

    @property
    def _source_of_email(self) -> Mapping[str, Any]:
        # Address and its verification from the same source.
        return self.values if "email" in self.values else self._userinfo

    @staticmethod
    def _text(name: str, source: Mapping[str, Any]) -> str:
        value = source.get(name)
        is_text = isinstance(value, str) and is_storable(value)
        return " ".join(value.split()) if is_text else ""  # type: ignore[union-attr]
