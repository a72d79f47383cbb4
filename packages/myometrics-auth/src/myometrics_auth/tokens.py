"""Signed tokens: what they say, and how they are made and read.

Specification: "JWT Token Configuration". simplejwt's token backend does the signing, with our
settings and never the host's ``SIMPLE_JWT``.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import jwt
from rest_framework_simplejwt.backends import TokenBackend

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
REMEMBERED_TOKENS = 1024
UNREADABLE: Final = (
    *(jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError),
    RecursionError,  # JSON as deep as a token is long, with PyJWT before it looked out for that
)


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
    if len(text) > LONGEST_TOKEN or not text.isascii():
        raise InvalidToken
    claims, expires_at = _signed_claims(text, auth_settings.signing_key)
    if claims.token_type != token_type:
        raise InvalidToken
    if expires_at <= time.time() and not accept_expired:
        raise InvalidToken
    return claims


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


@lru_cache(maxsize=REMEMBERED_TOKENS)
def _signed_claims(text: str, signing_key: str) -> tuple[TokenClaims, float]:
    """What a token signed with ``signing_key`` says, and until when (seconds since the epoch).

    A client shows the same token for a quarter of an hour: its signature need not be computed each
    time. Its expiry is looked at each time, and not by the library; nor is when it was issued: a
    clock that was put back must not refuse the tokens of the last hour.
    """
    try:
        payload = jwt.decode(
            text,
            signing_key,
            algorithms=[ALGORITHM],
            issuer=ISSUER,
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
        token_type = str(payload["token_type"])
        session_id = uuid.UUID(payload["sid"]) if token_type != MFA else None
        claims = TokenClaims(
            token_type, str(payload["user_id"]), session_id, str(payload.get("pwd", ""))
        )
        return claims, float(payload["exp"])
    except UNREADABLE as error:
        raise InvalidToken from error


@lru_cache(maxsize=8)
def _backend(signing_key: str) -> TokenBackend:
    return TokenBackend(ALGORITHM, signing_key=signing_key, issuer=ISSUER)
