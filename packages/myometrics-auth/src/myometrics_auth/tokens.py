"""Signed tokens: what they say, and how they are made and read.

Specification: "JWT Token Configuration". simplejwt's token backend does the signing, with our
settings and never the host's ``SIMPLE_JWT``.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from jwt import ExpiredSignatureError
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError

from myometrics_core.times import utc_now

from .conf import auth_settings
from .models import Session

__all__ = [
    "ACCESS",
    "ISSUER",
    "MFA",
    "REFRESH",
    "InvalidToken",
    "TokenClaims",
    "access_token",
    "mfa_token",
    "read_token",
    "refresh_token",
]

ALGORITHM: Final = "HS256"
ISSUER: Final = "myometrics-backend"
ACCESS: Final = "access"
REFRESH: Final = "refresh"
MFA: Final = "mfa"

LONGEST_TOKEN = 4096
"""Characters of a token that are looked at: ours are a tenth of that."""


class InvalidToken(Exception):
    """Not a token of ours, not of the wanted type, or past its time."""


@dataclass(frozen=True)
class TokenClaims:
    """What a validly signed token says. ``session_id`` is ``None`` in an ``mfa`` token."""

    token_type: str
    user_id: str
    session_id: uuid.UUID | None
    fingerprint: str = ""


def access_token(session: Session) -> str:
    """A token that authenticates requests of ``session``."""
    return _session_token(ACCESS, session, auth_settings.ACCESS_TOKEN_LIFETIME)


def refresh_token(session: Session) -> str:
    """The token that fetches access tokens for as long as ``session`` lasts."""
    return _session_token(REFRESH, session, auth_settings.REFRESH_TOKEN_LIFETIME)


def mfa_token(user: Any, fingerprint: str) -> str:
    """A token that says: the password of ``user`` was right; void once it changes."""
    claims = {"user_id": str(user.pk), "pwd": fingerprint}
    return _encode(MFA, auth_settings.MFA_TOKEN_LIFETIME, claims)


def read_token(text: str, token_type: str, *, accept_expired: bool = False) -> TokenClaims:
    """The claims of ``text``; any text may be given. Raises :class:`InvalidToken`.

    ``accept_expired`` lets a token past its time through; its signature must hold regardless.
    """
    payload = _verified(text, accept_expired)
    if payload.get("iss") != ISSUER or payload.get("token_type") != token_type:
        raise InvalidToken
    try:
        session_id = uuid.UUID(payload["sid"]) if token_type != MFA else None
        return TokenClaims(
            token_type, str(payload["user_id"]), session_id, str(payload.get("pwd", ""))
        )
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InvalidToken from error


def _session_token(token_type: str, session: Session, lifetime: timedelta) -> str:
    claims = {"user_id": str(session.user_id), "sid": str(session.pk)}
    return _encode(token_type, lifetime, claims)


def _encode(token_type: str, lifetime: timedelta, claims: dict[str, str]) -> str:
    issued_at = utc_now()
    standard = {
        "token_type": token_type,
        "exp": int((issued_at + lifetime).timestamp()),
        "iat": int(issued_at.timestamp()),
        "jti": uuid.uuid4().hex,
    }
    return _backend(auth_settings.signing_key).encode({**standard, **claims})


def _verified(text: str, accept_expired: bool) -> dict[str, Any]:
    if len(text) > LONGEST_TOKEN or not text.isascii():
        raise InvalidToken
    backend = _backend(auth_settings.signing_key)
    try:
        return backend.decode(text)  # type: ignore[arg-type]
    except TokenBackendError as error:
        # PyJWT finds the signature good before it looks at the time.
        if accept_expired and isinstance(error.__context__, ExpiredSignatureError):
            return backend.decode(text, verify=False)  # type: ignore[arg-type]
        raise InvalidToken from error
    except ValueError as error:
        raise InvalidToken from error


@lru_cache(maxsize=8)
def _backend(signing_key: str) -> TokenBackend:
    return TokenBackend(ALGORITHM, signing_key=signing_key, issuer=ISSUER)
