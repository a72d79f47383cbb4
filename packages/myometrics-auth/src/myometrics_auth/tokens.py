"""Signed tokens. Specification: "JWT Token Configuration".

simplejwt's token backend signs and verifies with this package's settings, never with the site's
``SIMPLE_JWT``. Its ``Token`` classes and blacklist are not used.
"""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

import jwt
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError

from myometrics_core.times import utc_now
from myometrics_core.users import keyed_hash, keyed_hashes

from .conf import auth_settings
from .errors import InvalidToken
from .models import AbstractClinicUser, Session

ISSUER: Final = "myometrics-backend"
ACCESS: Final = "access"
REFRESH: Final = "refresh"
MFA: Final = "mfa"

MAX_HEADER_LENGTH = 1024
MAX_TOKEN_LENGTH = 4096
"""Longer tokens are rejected unread; those issued here have about a tenth of this length."""
ANY_TIME: Final = timedelta(days=36_500)
"""Leeway of the backend: :func:`read_token` checks expiry, and nothing checks the issue time, so
that tokens stay valid after the clock is set back.
"""
UNREADABLE: Final = (
    *(TokenBackendError, KeyError, ValueError, TypeError, AttributeError),
    RecursionError,  # deeply nested JSON; older PyJWT releases don't catch it
)


@dataclass(frozen=True)
class TokenClaims:
    """The claims of a validly signed token.

    ``session_id`` is ``None`` in an ``mfa`` token; ``fingerprint`` is set only there.
    ``expires_at`` is in seconds since the epoch.
    """

    token_type: str
    user_id: str
    session_id: uuid.UUID | None
    fingerprint: str = ""
    token_id: str = ""
    expires_at: float = 0.0


class KeyListTokenBackend(TokenBackend):
    """simplejwt's backend with a list of keys: the first signs, all verify.

    ``kid`` identifies a token's key: a keyed hash, which does not reveal the key.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__("HS256", signing_key=keys[0], issuer=ISSUER, leeway=ANY_TIME)
        self.keys = {keyed_hash("signing key", secret=key)[:16]: key for key in keys}

    def encode(self, payload: dict[str, Any]) -> str:
        claims, headers = {**payload, "iss": self.issuer}, {"kid": next(iter(self.keys))}
        return jwt.encode(claims, self.prepared_signing_key, self.algorithm, headers=headers)

    def get_verifying_key(self, token: Any) -> str:
        key_id = jwt.get_unverified_header(token).get("kid")
        if key_id in self.keys:
            return self.keys[key_id]
        if key_id is None:  # issued by release 0.1
            for key in self.keys.values():
                with suppress(jwt.InvalidSignatureError):
                    jwt.PyJWS().decode(token, key, [self.algorithm])
                    return key
        raise TokenBackendError("The token's key is unknown.")


def access_token(session: Session) -> str:
    """Return a new token that authenticates requests of ``session``."""
    return _sign(
        ACCESS, auth_settings.ACCESS_TOKEN_LIFETIME, user_id=session.user_id, sid=session.pk
    )


def refresh_token(session: Session) -> str:
    """Return a new token that obtains access tokens until ``session`` ends."""
    return _sign(
        REFRESH, auth_settings.REFRESH_TOKEN_LIFETIME, user_id=session.user_id, sid=session.pk
    )


def rotated_refresh_token(session: Session) -> str:
    """Return the current refresh token of a session that has rotated it: always the same text."""
    issued_at = session.rotated_at or session.created_at
    return _sign(
        REFRESH,
        session.expires_at - issued_at,
        issued_at=issued_at,
        jti=session.refresh_token_id,
        user_id=session.user_id,
        sid=session.pk,
    )


def mfa_token(user: AbstractClinicUser) -> str:
    """Return a new token for the second sign-in step; changing the password invalidates it."""
    fingerprint = password_fingerprints(user)[0]
    return _sign(MFA, auth_settings.MFA_TOKEN_LIFETIME, user_id=user.pk, pwd=fingerprint)


def password_fingerprints(user: AbstractClinicUser) -> list[str]:
    """Return hashes of the user's stored password, under the newest key first."""
    return [made[:32] for made in keyed_hashes("password", user.password)]


def read_token(text: str, token_type: str, *, accept_expired: bool = False) -> TokenClaims:
    """Return the claims of a validly signed, unexpired token; raise ``InvalidToken`` otherwise."""
    if len(text) > MAX_TOKEN_LENGTH or not text.isascii():
        raise InvalidToken
    claims = _verified_claims(text, auth_settings.signing_keys)
    is_expired = claims.expires_at <= time.time()
    if claims.token_type != token_type or (is_expired and not accept_expired):
        raise InvalidToken
    return claims


def may_be_own_token(text: str) -> bool:
    """Return whether ``text`` looks like a token of this site: a JWT that is signed with HS256.

    Providers sign with other algorithms, which need no shared key.
    """
    header, _dot, rest = text.partition(".")
    return rest.count(".") == 1 and len(header) <= MAX_HEADER_LENGTH and _is_own_header(header)


def _sign(
    token_type: str, lifetime: timedelta, issued_at: datetime | None = None, **claims: Any
) -> str:
    issued_at = issued_at or utc_now()
    payload = {
        "token_type": token_type,
        "exp": int((issued_at + lifetime).timestamp()),
        "iat": int(issued_at.timestamp()),
        "jti": uuid.uuid4().hex,
        **{name: str(value) for name, value in claims.items()},
    }
    return _backend(auth_settings.signing_keys).encode(payload)


@lru_cache(maxsize=256)
def _is_own_header(text: str) -> bool:
    # Cached: the header is the same for all tokens of a key.
    try:
        return bool(jwt.get_unverified_header(f"{text}..")["alg"] == "HS256")
    except (jwt.PyJWTError, *UNREADABLE):
        return False


@lru_cache(maxsize=1024)
def _verified_claims(text: str, signing_keys: tuple[str, ...]) -> TokenClaims:
    # Cached: clients send one token for 15 minutes, and reading it again took 30 % of a request.
    try:
        payload = _backend(signing_keys).decode(text)  # type: ignore[arg-type]
        token_type = str(payload["token_type"])
        is_mfa = token_type == MFA
        return TokenClaims(
            token_type,
            str(payload["user_id"]),
            None if is_mfa else uuid.UUID(payload["sid"]),
            fingerprint=str(payload.get("pwd", "")),
            token_id=str(payload["jti"]),
            expires_at=float(payload["exp"]),
        )
    except UNREADABLE as error:
        raise InvalidToken from error


@lru_cache(maxsize=8)
def _backend(signing_keys: tuple[str, ...]) -> KeyListTokenBackend:
    return KeyListTokenBackend(signing_keys)
