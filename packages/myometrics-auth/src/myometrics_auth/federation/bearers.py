"""Authentication by access tokens of providers: validated once, then one query per request."""

from __future__ import annotations

import time
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from rest_framework.exceptions import PermissionDenied, Throttled
from rest_framework.request import Request

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import InvalidCredentials, InvalidToken
from myometrics_auth.models import Session
from myometrics_auth.selectors import has_second_factor
from myometrics_core.api import address_key, rate_limiter
from myometrics_core.db import RowLookup, atomic_write
from myometrics_core.http import user_agent
from myometrics_core.times import utc_now

from .claims import Claims
from .conf import Provider
from .errors import ProviderUnavailable, code_of, refusal
from .models import ForeignToken, Identity
from .providers import providers
from .provisioning import identity_resolve, lock_user
from .sign_in import (
    access_token_use_up,
    bearer_idle_timeout,
    federated_session_start,
    is_bearer_over,
)
from .token_hashes import token_hash
from .token_validation import unverified_issuer, validate_access_token

MAX_TOKEN_LENGTH: Final = 8192
FIRST_USES: Final = "30/minute"
"""First uses of tokens per client address."""
REFUSED_FOR: Final = timedelta(minutes=1)
CLAIM_LASTS: Final = timedelta(minutes=1)
"""Longer than all calls of a validation together."""
WAIT_SECONDS: Final = 20.0
"""How long a request waits for another one that validates the same token."""
POLL_SECONDS: Final = 0.05

State = ForeignToken.State

_tokens = RowLookup(lambda: ForeignToken.objects.select_related("session__user"))


class _ClaimLost(Exception):
    """Another request has taken over the validation."""


def authenticate_foreign_token(token: str, request: Request) -> Session:
    """Return the live session of a provider's access token.

    The first use validates it and starts a session, or joins the one of the same identity and user
    agent. Raises ``InvalidToken``, ``PermissionDenied`` (``mfa_required`` and the codes of
    ``identity_resolve``), ``Throttled`` and ``ProviderUnavailable``.
    """
    if not token or len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise InvalidToken
    view: Any = (getattr(request, "parser_context", None) or {}).get("view")
    if hasattr(view, "require_database"):  # health responds in time even if the database hangs
        view.require_database()
    key = token_hash(token)
    row = _tokens.get(key)
    if row is None or _may_be_claimed(row) or row.state == State.PENDING:
        row = _first_use(token, key, request)
    return _session(row)


def foreign_tokens_sweep() -> int:
    """Delete rows of tokens that can't be valid any more; return their number."""
    return int(ForeignToken.objects.filter(kept_until__lt=utc_now()).delete()[0])


def _session(row: ForeignToken) -> Session:
    if row.state == State.REFUSED:
        raise refusal(row.refusal)
    session = row.session
    is_configured = row.provider in auth_settings.IDENTITY_PROVIDERS
    if session is None or is_bearer_over(row) or not is_configured:
        raise InvalidToken
    idle = bearer_idle_timeout()
    if idle is not None:
        session.record_use(idle)
    session.is_of_foreign_token = True
    return session


def _may_be_claimed(row: ForeignToken) -> bool:
    return row.state != State.ACCEPTED and row.expires_at <= utc_now()


def _first_use(token: str, key: str, request: Request) -> ForeignToken:
    """Validate the token, or wait for the request that does; return its row."""
    candidates = _candidates(token)
    if not candidates:
        raise InvalidToken
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        claim = _claim(key)
        if claim:
            try:
                _validate(token, key, claim, candidates, request)
            except _ClaimLost:
                continue
        row = _tokens.get(key)
        if row is not None and row.state != State.PENDING and not _may_be_claimed(row):
            return row
        time.sleep(POLL_SECONDS)
    raise ProviderUnavailable


def _candidates(token: str) -> list[Provider]:
    """Return the providers that may have issued the token: by ``iss``, or all for opaque ones."""
    issuer = unverified_issuer(token)
    return [
        provider
        for provider in providers()
        if provider.access_tokens != "off"
        and (issuer == provider.issuer or (issuer is None and provider.access_tokens != "jwt"))
    ]


def _claim(key: str) -> str:
    """Take over the validation; return the claim, or ``""`` if another request has it."""
    claim, now = uuid.uuid4().hex, utc_now()
    values = {
        "state": State.PENDING,
        "claim": claim,
        "refusal": "",
        "expires_at": now + CLAIM_LASTS,
        "kept_until": now + CLAIM_LASTS,
    }
    _row, is_new = ForeignToken.objects.get_or_create(token_hash=key, defaults=values)
    over = ForeignToken.objects.filter(pk=key, expires_at__lte=now).exclude(state=State.ACCEPTED)
    return claim if is_new or over.update(**values) else ""


def _validate(
    token: str, key: str, claim: str, candidates: list[Provider], request: Request
) -> None:
    own = ForeignToken.objects.filter(pk=key, claim=claim, state=State.PENDING)
    try:
        counted = rate_limiter.hit(FIRST_USES, "first uses of tokens", address_key(request))
        if not counted.allowed:
            raise Throttled(wait=counted.retry_after)
        _accept(token, key, claim, _claims(token, candidates), request)
    except (InvalidToken, InvalidCredentials, PermissionDenied) as error:
        until = utc_now() + REFUSED_FOR
        own.update(state=State.REFUSED, refusal=code_of(error), expires_at=until, kept_until=until)
    except BaseException:
        own.delete()
        raise


def _claims(token: str, candidates: list[Provider]) -> Claims:
    unavailable = None
    for provider in candidates:
        try:
            return validate_access_token(provider, token)
        except InvalidToken:
            continue
        except ProviderUnavailable as error:
            unavailable = error
    raise unavailable or InvalidToken


def _accept(token: str, key: str, claim: str, claims: Claims, request: Request) -> None:
    identity = identity_resolve(claims=claims, request=request)
    with atomic_write():
        user = lock_user(identity.user_id)
        if user is None or not Identity.objects.filter(pk=identity.pk).exists():
            raise InvalidToken
        needs_factor = user.role in auth_settings.MFA_REQUIRED_ROLES or has_second_factor(user)
        if needs_factor and not claims.has_second_factor:
            raise refusal("mfa_required")
        token_end = datetime.fromtimestamp(claims.expires_at, timezone.utc)
        lifetime = auth_settings.FEDERATED_BEARER_LIFETIME
        expires_at = token_end if lifetime is None else utc_now() + lifetime
        kept_until = max(token_end, expires_at)
        access_token_use_up(token=token, until=kept_until)
        session = _join_session(identity, claims, expires_at, request) or federated_session_start(
            user=user,
            identity=identity,
            claims=claims,
            request=request,
            expires_at=expires_at,
            is_of_bearer=True,
        )
        accepted = ForeignToken.objects.filter(pk=key, claim=claim, state=State.PENDING).update(
            state=State.ACCEPTED,
            provider=claims.provider.slug,
            session=session,
            expires_at=expires_at,
            kept_until=kept_until,
        )
        if not accepted:
            raise _ClaimLost


def _join_session(
    identity: Identity, claims: Claims, expires_at: datetime, request: Request
) -> Session | None:
    live = Session.objects.live().filter(
        federated__identity=identity,
        federated__is_of_bearer=True,
        federated__provider_session=claims.provider_session,
        user_agent=user_agent(request, max_length=512),
        second_factor=claims.has_second_factor,
    )
    now, idle = utc_now(), bearer_idle_timeout()
    if idle is not None:
        live = live.used_since(now - idle)
    session = live.order_by("created_at").first()
    if session is None:
        return None
    # End and join are serialised by the row: an ended session is not revived.
    own = Session.objects.live().filter(pk=session.pk)
    written = {"expires_at": max(session.expires_at, expires_at), "refreshed_at": now}
    if claims.authenticated_at is not None:
        before = session.reauthenticated_at or session.created_at
        written["reauthenticated_at"] = max(before, claims.authenticated_at)
    return session if own.update(**written) else None
