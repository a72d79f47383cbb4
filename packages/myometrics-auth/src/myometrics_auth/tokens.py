"""Signed tokens: claims, encoding and decoding.

Specification: "JWT Token Configuration". simplejwt's token backend signs with this package's
settings, never with the site's ``SIMPLE_JWT``. Its ``Token`` classes and blacklist are not used.
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
from myometrics_core.users import keyed_hash

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
"""Longer tokens are rejected unread; those issued here have about a tenth of this length."""
REMEMBERED_TOKENS = 1024
UNREADABLE: Final = (
    *(jwt.PyJWTError, KeyError, ValueError, TypeError, AttributeError),
    RecursionError,  # deeply nested JSON; older PyJWT releases don't catch it
)


class InvalidToken(Exception):
    """The token was not issued here, has the wrong type, or has expired."""


@dataclass(frozen=True)
class TokenClaims:
    """The claims of a validly signed token.

    ``session_id`` is ``None`` in an ``mfa`` token; ``fingerprint`` and ``token_id`` are set only
    there. ``expires_at`` is in seconds since the epoch.
    """

    token_type: str
    user_id: str
    session_id: uuid.UUID | None
    fingerprint: str = ""
    token_id: str = ""
    expires_at: float = 0.0


class RotatingTokenBackend(TokenBackend):
    """simplejwt's backend with a list of keys: the first signs, all verify.

    ``kid`` identifies a token's key. Tokens without it, from releases that set none, are tried with
    every key. The caller checks expiry and issue time: see :func:`read_token`.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(ALGORITHM, signing_key=keys[0], issuer=ISSUER)
        self.keys = {_key_id(key): key for key in keys}
        self.key_id = _key_id(keys[0])

    def encode(self, payload: dict[str, Any]) -> str:
        """Sign ``payload`` with the first key."""
        claims = {**payload, "iss": self.issuer}
        key, headers = self.keys[self.key_id], {"kid": self.key_id}
        return jwt.encode(claims, key, self.algorithm, headers=headers)

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        """Return the claims of a token signed with one of the keys; ``verify`` is ignored.

        Raises one of ``UNREADABLE``: usually a PyJWT error, ``KeyError`` for an unknown key.
        """
        key_id = jwt.get_unverified_header(token).get("kid")
        if key_id is not None:
            return self._decode(token, self.keys[key_id])
        for key in self.keys.values():
            try:
                return self._decode(token, key)
            except jwt.InvalidSignatureError:
                continue
        raise jwt.InvalidSignatureError

    def _decode(self, token: Any, key: str) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=[self.algorithm],
            issuer=self.issuer,
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )


def access_token(session: Session) -> str:
    """Create the token that authenticates requests of ``session``."""
    return _session_token(ACCESS, session, auth_settings.ACCESS_TOKEN_LIFETIME)


def refresh_token(session: Session) -> str:
    """Create the token that obtains access tokens until ``session`` ends."""
    return _session_token(REFRESH, session, auth_settings.REFRESH_TOKEN_LIFETIME)


def mfa_token(user: Any, fingerprint: str) -> str:
    """Create the token for the second sign-in step; changing the password invalidates it."""
    claims = {"user_id": str(user.pk), "pwd": fingerprint}
    return _encode(MFA, auth_settings.MFA_TOKEN_LIFETIME, claims)


def read_token(text: str, token_type: str, *, accept_expired: bool = False) -> TokenClaims:
    """Return the claims of ``text``, which may be arbitrary; raise :class:`InvalidToken`.

    ``accept_expired`` accepts an expired token with a valid signature.
    """
    if len(text) > LONGEST_TOKEN or not text.isascii():
        raise InvalidToken
    claims = _signed_claims(text, auth_settings.signing_keys)
    if claims.token_type != token_type:
        raise InvalidToken
    if claims.expires_at <= time.time() and not accept_expired:
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
    return _backend(auth_settings.signing_keys).encode({**standard, **claims})


@lru_cache(maxsize=REMEMBERED_TOKENS)
def _signed_claims(text: str, signing_keys: tuple[str, ...]) -> TokenClaims:
    """Return the claims of a token signed with one of ``signing_keys``.

    Cached, because clients send the same token for 15 minutes. The caller checks expiry each time.
    The issue time is not checked: it would reject valid tokens after the clock is set back.
    """
    try:
        payload = _backend(signing_keys).decode(text)
        token_type = str(payload["token_type"])
        is_mfa = token_type == MFA
        return TokenClaims(
            token_type,
            str(payload["user_id"]),
            None if is_mfa else uuid.UUID(payload["sid"]),
            fingerprint=str(payload.get("pwd", "")),
            token_id=str(payload["jti"]) if is_mfa else "",
            expires_at=float(payload["exp"]),
        )
    except UNREADABLE as error:
        raise InvalidToken from error


@lru_cache(maxsize=8)
def _backend(signing_keys: tuple[str, ...]) -> RotatingTokenBackend:
    return RotatingTokenBackend(signing_keys)


def _key_id(key: str) -> str:
    """Derive a key id from a keyed hash, which does not reveal the key."""
    return keyed_hash("signing key", secret=key)[:16]
