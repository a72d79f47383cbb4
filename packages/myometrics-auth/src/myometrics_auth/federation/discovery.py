"""Endpoints and signing keys of identity providers, cached in each process."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from joserfc.jwk import ECKey, JWKRegistry, OKPKey, RSAKey

from .conf import Provider, is_fetchable
from .errors import ProviderUnavailable
from .provider_requests import QUEUE_SECONDS, fetch_json

logger = logging.getLogger("myometrics.auth.federation")

FRESH_SECONDS: Final = 3600.0
"""How long documents are used before they are fetched again."""
REFRESH_SECONDS: Final = 60.0
"""Minimum interval between two requests for keys because of an unknown ``kid``, and after failed
ones."""
STALE_SECONDS: Final = 24 * 3600.0
"""How long documents are used while the provider can't be reached."""
MIN_RSA_BITS: Final = 2048

SigningKey = RSAKey | ECKey | OKPKey


@dataclass
class _Document:
    """A cached document of one URL; ``lock`` makes threads share a request."""

    content: Any = None
    fetched_at: float = -STALE_SECONDS
    tried_at: float = -STALE_SECONDS
    lock: threading.Lock = field(default_factory=threading.Lock)


_documents: dict[tuple[str, str], _Document] = {}
_documents_lock = threading.Lock()


def endpoint(provider: Provider, name: str) -> str:
    """Return the URL of an endpoint, from the settings or from discovery.

    Raises ``ProviderUnavailable`` if discovery fails, or has no such endpoint that may be called.
    """
    if name in provider.endpoints:
        return provider.endpoints[name]
    url = _metadata(provider).get(name)
    if not is_fetchable(url, loopback=provider.is_local):
        logger.error("The identity provider %r has no usable %s", provider.slug, name)
        raise ProviderUnavailable
    return str(url)


def has_endpoint(provider: Provider, name: str) -> bool:
    """Return whether the provider has the endpoint ``name``."""
    return name in provider.endpoints or bool(_metadata(provider).get(name))


def client_authentication(provider: Provider, name: str) -> str:
    """Return how our client authenticates at the endpoint ``name``: ``basic`` or ``post``.

    ``""`` for a client without a secret. Raises ``ProviderUnavailable`` if its file is unreadable.
    """
    try:
        has_secret = bool(provider.client_secret)
    except (OSError, ValueError) as error:
        reason = type(error).__name__
        logger.error("The secret of %r can't be read from its file: %s", provider.slug, reason)
        raise ProviderUnavailable from error
    if not has_secret:
        return ""
    if name in provider.endpoints:
        return "basic"
    methods = _metadata(provider).get(f"{name}_auth_methods_supported")
    supported = methods if isinstance(methods, list) else ["client_secret_basic"]
    is_post = "client_secret_basic" not in supported and "client_secret_post" in supported
    return "post" if is_post else "basic"


def signing_keys(provider: Provider, key_id: str | None) -> list[SigningKey]:
    """Return the keys that may have signed a token with this ``kid``; usually one, or none.

    An unknown ``kid`` fetches the keys again, at most once a minute. Without a ``kid`` only the
    single key of a provider is returned.
    """
    url = endpoint(provider, "jwks_uri")
    keys = _document(provider, url, _parse_keys, max_age=FRESH_SECONDS)
    found = _matching(keys, key_id)
    if not found and key_id is not None:
        keys = _document(provider, url, _parse_keys, max_age=REFRESH_SECONDS)
        found = _matching(keys, key_id)
    return found


def clear_discovery() -> None:
    """Delete the cached documents of this process. For tests and operators."""
    with _documents_lock:
        _documents.clear()


def _metadata(provider: Provider) -> Mapping[str, Any]:
    def parse(body: Mapping[str, Any]) -> Mapping[str, Any]:
        if body.get("issuer") != provider.issuer:
            raise ValueError("its discovery document names another issuer")
        return body

    found: Mapping[str, Any] = _document(
        provider, provider.discovery_url, parse, max_age=FRESH_SECONDS
    )
    return found


def _document(
    provider: Provider, url: str, parse: Callable[[Mapping[str, Any]], Any], *, max_age: float
) -> Any:
    with _documents_lock:
        document = _documents.setdefault((provider.issuer, url), _Document())
    if not document.lock.acquire(timeout=QUEUE_SECONDS):
        raise ProviderUnavailable  # another thread waits for the provider
    try:
        now = time.monotonic()
        if now - document.fetched_at < max_age:
            return document.content
        has_content = now - document.fetched_at < STALE_SECONDS
        if has_content and now - document.tried_at < REFRESH_SECONDS:
            return document.content
        document.tried_at = now
        try:
            response = fetch_json(provider, url)
            if response.status != 200:
                raise ValueError(f"status {response.status} at {url}")
            document.content = parse(response.body)
            document.fetched_at = now
        except (ProviderUnavailable, ValueError) as error:
            if isinstance(error, ValueError):
                logger.error("The identity provider %r can't be used: %s", provider.slug, error)
            if not has_content:
                raise ProviderUnavailable from error
        return document.content
    finally:
        document.lock.release()


def _parse_keys(body: Mapping[str, Any]) -> list[tuple[str | None, SigningKey]]:
    given = body.get("keys")
    if not isinstance(given, list):
        raise ValueError("its key set has no keys")
    parsed = ((key.get("kid"), _parse_key(key)) for key in given if isinstance(key, dict))
    return [(key_id, key) for key_id, key in parsed if key is not None]


def _parse_key(given: Mapping[str, Any]) -> SigningKey | None:
    # Providers also publish keys for encryption, and of kinds that are not known here.
    if given.get("use", "sig") != "sig" or given.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        key = JWKRegistry.import_key(dict(given))
        is_strong = not isinstance(key, RSAKey) or key.public_key.key_size >= MIN_RSA_BITS
    except Exception:  # joserfc and cryptography raise many exceptions for malformed keys
        return None
    return key if is_strong and isinstance(key, (RSAKey, ECKey, OKPKey)) else None


def _matching(keys: list[tuple[str | None, SigningKey]], key_id: str | None) -> list[SigningKey]:
    if key_id is None:
        return [key for _, key in keys] if len(keys) == 1 else []
    return [key for known, key in keys if known == key_id]
