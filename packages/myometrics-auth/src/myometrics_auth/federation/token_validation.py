"""Validation of the tokens of identity providers.

ID tokens (OpenID Connect Core, section 3.1.3.7), access tokens (RFC 9068, RFC 7662, Google's
tokeninfo) and logout tokens (OpenID Connect Back-Channel Logout, section 2.6).
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

from django.utils.crypto import constant_time_compare
from joserfc import jws
from joserfc.errors import JoseError

from myometrics_auth.errors import InvalidToken
from myometrics_core.texts import is_finite, is_storable

from .claims import LEEWAY, MAX_SUBJECT_LENGTH, Claims
from .conf import Provider
from .discovery import client_authentication, endpoint, has_endpoint, signing_keys
from .errors import ProviderUnavailable
from .provider_requests import fetch_json

logger = logging.getLogger("myometrics.auth.federation")

ALGORITHMS: Final = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
ID_TOKEN_TYPES: Final = frozenset({None, "JWT"})
ACCESS_TOKEN_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})
LOGOUT_TOKEN_TYPES: Final = frozenset({None, "JWT", "logout+jwt", "application/logout+jwt"})
LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LOGOUT_SECONDS: Final = 600.0
"""Maximum age of a logout token without ``exp``."""
DEFAULT_SECONDS: Final = 3600.0
"""Assumed lifetime of an access token whose provider does not say it."""
MAX_MOMENT: Final = 253_370_764_800.0  # the year 9999
UNREADABLE: Final = (
    *(JoseError, ValueError, TypeError, KeyError, AttributeError),
    *(RecursionError, OverflowError),
)


def validate_id_token(
    provider: Provider, token: str, *, nonce: str | None = None, access_token: str = ""
) -> Claims:
    """Return the claims of an ID token for our client; raise ``InvalidToken``.

    ``nonce``: of the sign-in; ``None`` accepts any. ``access_token``: of the same response; used
    for userinfo.
    """
    header, values = _verified(provider, token, ID_TOKEN_TYPES)
    # A logout token is never an ID token.
    _require("events" not in values and isinstance(values.get("iat"), (int, float)))
    _require(_is_for_us(provider, values.get("aud"), values, needs_party=True))
    if nonce is not None:
        sent = values.get("nonce")
        _require(isinstance(sent, str) and constant_time_compare(sent, nonce))
    claims = _claims(provider, values)
    if access_token:
        _require(_matches_hash(header["alg"], values.get("at_hash"), access_token))
        claims = replace(claims, fetch_userinfo=partial(userinfo, provider, access_token))
    return claims


def validate_access_token(provider: Provider, token: str) -> Claims:
    """Return the claims of an access token, validated as ``access_tokens`` of the provider says.

    Raises ``InvalidToken``; ``ProviderUnavailable`` if the provider does not respond.
    """
    validate = {
        "jwt": _by_signature,
        "introspection": _by_introspection,
        "tokeninfo": _by_tokeninfo,
    }
    _require(provider.access_tokens in validate and token.isascii())
    claims = validate[provider.access_tokens](provider, token)
    # A sender-constrained token (RFC 7800) is worth nothing without a proof of its key.
    _require("cnf" not in claims.values)
    return replace(claims, fetch_userinfo=partial(userinfo, provider, token))


def validate_logout_token(provider: Provider, token: str) -> Mapping[str, Any]:
    """Return the claims of a logout token, with ``sid``, ``sub`` or both; raise ``InvalidToken``.

    Whether it was used before is not checked here.
    """
    _header, values = _verified(provider, token, LOGOUT_TOKEN_TYPES)
    events = values.get("events")
    _require(isinstance(events, dict) and isinstance(events.get(LOGOUT_EVENT), dict))
    _require("nonce" not in values and _is_for_us(provider, values.get("aud"), values))
    now, issued_at = time.time(), _moment(values.get("iat"))
    _require(issued_at is not None and issued_at <= now + LEEWAY)
    default = (issued_at or 0.0) + LOGOUT_SECONDS
    expires_at = _moment(values.get("exp", default))
    _require(expires_at is not None and expires_at > now)
    _require(_is_identifier(values.get("jti")))
    _require("sid" in values or "sub" in values)
    _require(all(_is_identifier(values[name]) for name in ("sid", "sub") if name in values))
    return values


def userinfo(provider: Provider, access_token: str) -> Mapping[str, Any]:
    """Return the claims of the userinfo endpoint; ``{}`` if it refuses, or does not exist.

    Raises ``ProviderUnavailable``.
    """
    if not has_endpoint(provider, "userinfo_endpoint"):
        return {}
    url = endpoint(provider, "userinfo_endpoint")
    response = fetch_json(provider, url, bearer=access_token)
    return response.body if response.status == 200 else {}


def unverified_issuer(token: str) -> str | None:
    """Return the ``iss`` of a JWT without verifying anything; ``None`` for other tokens."""
    try:
        _header, payload, _signature = token.split(".")
        issuer = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["iss"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return issuer if isinstance(issuer, str) else None


def signed_part_hash(token: str) -> str:
    """Return a hash of what a JWT's signature covers: a signature can have several spellings."""
    return hashlib.sha256(token.rpartition(".")[0].encode()).hexdigest()


def _by_signature(provider: Provider, token: str) -> Claims:
    _header, values = _verified(provider, token, ACCESS_TOKEN_TYPES)
    _require(_is_for_us(provider, values.get("aud"), values))
    _require("events" not in values and isinstance(values.get("iat"), (int, float)))
    return _claims(provider, values)


def _by_introspection(provider: Provider, token: str) -> Claims:
    name = "introspection_endpoint"
    authentication = client_authentication(provider, name)
    form = {"token": token, "token_type_hint": "access_token"}
    if not authentication:
        form["client_id"] = provider.client_id
    response = fetch_json(provider, endpoint(provider, name), form=form, client_auth=authentication)
    if response.status != 200:
        logger.error("The provider %r refuses introspection: %s", provider.slug, response.status)
        raise ProviderUnavailable
    values = response.body
    _require(values.get("active") is True)
    # Refresh tokens can be introspected as well, and have no `token_type`; older releases of
    # Keycloak name the kind in `typ` instead.
    kind = values.get("token_type") or values.get("typ")
    _require(isinstance(kind, str) and kind.lower() == "bearer")
    _require(values.get("typ") in (None, "Bearer", "at+jwt"))
    _require(values.get("iss", provider.issuer) == provider.issuer)
    audience = values.get("aud") or values.get("client_id")
    _require(_is_for_us(provider, audience, values))
    # Without any time, it may be from before an erasure.
    unknown = {} if "exp" in values else {"iat": 1, "exp": time.time() + DEFAULT_SECONDS}
    return _claims(provider, {**unknown, **values})


def _by_tokeninfo(provider: Provider, token: str) -> Claims:
    separator = "&" if "?" in provider.tokeninfo_endpoint else "?"
    url = f"{provider.tokeninfo_endpoint}{separator}{urlencode({'access_token': token})}"
    response = fetch_json(provider, url)
    _require(response.status not in {400, 401, 404})
    if response.status != 200:
        logger.error("The provider %r refuses tokeninfo: %s", provider.slug, response.status)
        raise ProviderUnavailable
    values = dict(response.body)
    _require("error" not in values and values.get("iss", provider.issuer) == provider.issuer)
    _require(_is_for_us(provider, values.get("aud"), values))
    # Google writes numbers as text. `exp` is left out: both would have to agree.
    seconds = _moment(_number(values.get("expires_in"))) or 0.0
    values.pop("iat", None)
    return _claims(provider, {**values, "exp": time.time() + seconds})


def _verified(
    provider: Provider, token: str, types: frozenset[str | None]
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Return header and payload of a JWT that ``provider`` signed; check its times and issuer."""
    registry = jws.JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
    try:
        signed = jws.extract_compact(token.encode("ascii"), registry=registry)
        header = dict(signed.headers())
        key_id = header.get("kid")
        _require(header.get("alg") in ALGORITHMS and header.get("typ") in types)
        _require(key_id is None or isinstance(key_id, str))
        is_signed = any(
            key.as_dict().get("alg", header["alg"]) == header["alg"]
            and _is_signed_by(signed, key, registry)
            for key in signing_keys(provider, key_id)
        )
        _require(is_signed)
        values = json.loads(signed.payload)
    except UNREADABLE as error:
        raise InvalidToken from error
    _require(isinstance(values, dict) and values.get("iss") == provider.issuer)
    return header, values


def _is_signed_by(signed: Any, key: Any, registry: Any) -> bool:
    try:
        return bool(jws.validate_compact(signed, key, registry=registry))
    except UNREADABLE:
        return False


def _claims(provider: Provider, values: Mapping[str, Any]) -> Claims:
    now, expires_at = time.time(), _moment(values.get("exp"))
    not_before, issued_at = _moment(values.get("nbf", now)), _moment(values.get("iat", now))
    _require(expires_at is not None and expires_at > now)
    _require(not_before is not None and not_before <= now + LEEWAY)
    _require(issued_at is not None and issued_at <= now + LEEWAY)
    if "iat" not in values:
        issued_at = expires_at - DEFAULT_SECONDS  # type: ignore[operator]
    subject = values.get("sub")
    _require(_is_identifier(subject))
    return Claims(provider, subject, values, issued_at, expires_at)  # type: ignore[arg-type]


def _is_for_us(
    provider: Provider, audience: Any, values: Mapping[str, Any], *, needs_party: bool = False
) -> bool:
    """Return whether ``aud`` and, if there is one, ``azp`` are among the provider's audiences.

    ``needs_party``: a token for several audiences needs an ``azp``.
    """
    audiences = audience if isinstance(audience, list) else [audience]
    accepted = provider.audiences
    is_meant = any(isinstance(one, str) and one in accepted for one in audiences)
    is_needed = needs_party and len(audiences) > 1
    party = values.get("azp", None if is_needed else accepted[0])
    return is_meant and isinstance(party, str) and party in accepted


def _matches_hash(algorithm: str, at_hash: Any, access_token: str) -> bool:
    if at_hash is None:
        return True
    digest = hashlib.new(f"sha{algorithm[2:]}" if algorithm[2:].isdigit() else "sha512")
    digest.update(access_token.encode())
    half = digest.digest()[: digest.digest_size // 2]
    expected = base64.urlsafe_b64encode(half).rstrip(b"=").decode()
    return isinstance(at_hash, str) and constant_time_compare(at_hash, expected)


def _moment(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and is_finite(value) and 0 < value < MAX_MOMENT else None


def _number(value: Any) -> Any:
    is_text = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12
    return int(value) if is_text else value


def _is_identifier(value: Any) -> bool:
    is_text = isinstance(value, str) and 0 < len(value) <= MAX_SUBJECT_LENGTH
    return is_text and is_storable(value)


def _require(condition: object) -> None:
    if not condition:
        raise InvalidToken
