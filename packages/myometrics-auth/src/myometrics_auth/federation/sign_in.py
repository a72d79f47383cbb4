"""Sign-in with a token of an identity provider; the response is that of a sign-in by password."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from myometrics_auth.conf import auth_settings
from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import Session, UsedToken, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.services.sessions import session_start
from myometrics_auth.services.sign_in import SignIn
from myometrics_auth.tokens import MFA, mfa_token, read_token
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now

from .claims import Claims
from .conf import Provider
from .models import FederatedSession, ForeignToken, Identity, SecondStep
from .provisioning import identity_resolve, lock_user
from .token_hashes import token_hash
from .token_validation import (
    signed_part_hash,
    unverified_issuer,
    validate_access_token,
    validate_id_token,
)

MAX_IDLE: Final = timedelta(minutes=30)


def sign_in_with_id_token(*, provider: Provider, id_token: str, request: AnyRequest) -> SignIn:
    """Sign in with an ID token, which is accepted once.

    Raises ``InvalidToken`` and the exceptions of ``identity_resolve``.
    """
    claims = validate_id_token(provider, id_token)
    return sign_in_by_claims(claims=claims, request=request, id_token=id_token)


def sign_in_with_access_token(
    *, provider: Provider, access_token: str, request: AnyRequest
) -> SignIn:
    """Sign in with an access token of a provider whose ``access_tokens`` is not ``"off"``.

    Raises like :func:`sign_in_with_id_token`; also for a token whose own session is over.
    """
    # Before the look-up, as another request may accept the token in between.
    is_used = _has_been_bearer(access_token)
    known = ForeignToken.objects.filter(pk=token_hash(access_token), state="accepted")
    row = known.select_related("session").first()
    if is_bearer_over(row) if row is not None else is_used:
        raise InvalidToken
    claims = validate_access_token(provider, access_token)
    return sign_in_by_claims(claims=claims, request=request)


def sign_in_by_claims(*, claims: Claims, request: AnyRequest, id_token: str = "") -> SignIn:
    """Start a session for the user of validated claims, or return a token for the second step.

    ``id_token`` is used up. Raises like :func:`sign_in_with_id_token`.
    """
    require_unused(id_token)
    identity = identity_resolve(claims=claims, request=request)
    return sign_in_by_identity(identity=identity, claims=claims, request=request, id_token=id_token)


def sign_in_by_identity(
    *,
    identity: Identity,
    claims: Claims,
    request: AnyRequest,
    id_token: str = "",
    in_browser: bool = False,
) -> SignIn:
    """Like :func:`sign_in_by_claims`, for a resolved identity.

    ``in_browser`` is passed to ``session_start``.
    """
    with atomic_write():
        user = lock_user(identity.user_id)
        if user is None or not Identity.objects.filter(pk=identity.pk).exists():
            raise InvalidToken
        if id_token:
            used = signed_part_hash(id_token)
            token_use_once(token_id=used, expires_at=claims.expires_at)
        if has_second_factor(user) and not claims.has_second_factor:
            return SignIn(mfa_token=_second_step(user, identity, claims))
        session = federated_session_start(
            user=user, identity=identity, claims=claims, request=request, in_browser=in_browser
        )
    return SignIn(session=session)


def federated_session_start(
    *,
    user: User,
    identity: Identity,
    claims: Claims,
    request: AnyRequest,
    is_of_bearer: bool = False,
    **options: Any,
) -> Session:
    """Start a session of ``user`` by ``identity``; ``options`` are those of ``session_start``."""
    issued_at = datetime.fromtimestamp(min(claims.issued_at, time.time()), timezone.utc)
    with atomic_write():
        session = session_start(
            user=user,
            request=request,
            second_factor=claims.has_second_factor,
            authenticated_at=claims.authenticated_at or issued_at,
            details={"provider": claims.provider.slug},
            **options,
        )
        FederatedSession.objects.create(
            session=session,
            identity=identity,
            provider_session=claims.provider_session,
            is_of_bearer=is_of_bearer,
        )
    return session


def require_unused(id_token: str) -> None:
    """Raise ``InvalidToken`` for an ID token that was used before."""
    if id_token and UsedToken.objects.filter(pk=signed_part_hash(id_token)).exists():
        raise InvalidToken


def token_use_once(*, token_id: str, expires_at: float) -> None:
    """Record a used token until it expires; raise ``InvalidToken`` if it was used before."""
    until = datetime.fromtimestamp(expires_at, timezone.utc)
    _row, is_new = UsedToken.objects.get_or_create(
        token_id=token_id, defaults={"expires_at": until}
    )
    if not is_new:
        raise InvalidToken


def access_token_use_up(*, token: str, until: datetime) -> None:
    """Record a JWT that becomes a session; raise ``InvalidToken`` for another spelling of one.

    A signature can have several spellings, and a ``ForeignToken`` is only one of them.
    """
    if unverified_issuer(token) is None:
        return
    used = signed_part_hash(token)
    # Its provider does not say when the token expires, and accepts it still.
    UsedToken.objects.filter(pk=used, expires_at__lte=utc_now()).delete()
    token_use_once(token_id=used, expires_at=until.timestamp())


def is_bearer_over(row: ForeignToken) -> bool:
    """Return whether an accepted access token, or its session, has expired, ended or been idle."""
    session, now, idle = row.session, utc_now(), bearer_idle_timeout()
    if session is None or row.expires_at <= now or not session.is_live:
        return True
    return idle is not None and session.last_seen_at <= now - idle


def bearer_idle_timeout() -> timedelta | None:
    """Return how long a session of access tokens may be unused; ``None`` for any time."""
    if auth_settings.FEDERATED_BEARER_LIFETIME is None:
        return None
    configured = auth_settings.SESSION_IDLE_TIMEOUT
    return MAX_IDLE if configured is None else min(MAX_IDLE, configured)


def find_second_step_details(*, token_id: str, **kwargs: Any) -> dict[str, str]:
    """Return the provider of a sign-in that needs our second factor; a receiver of a signal."""
    step = SecondStep.objects.select_related("identity").filter(pk=token_id).first()
    return {} if step is None else {"provider": step.identity.provider}


def remember_second_step(*, token_id: str, session: Session, **kwargs: Any) -> None:
    """Connect a session to its identity after our second factor; a receiver of a signal."""
    step = SecondStep.objects.filter(pk=token_id).first()
    if step is not None:
        FederatedSession.objects.create(
            session=session, identity_id=step.identity_id, provider_session=step.provider_session
        )
        step.delete()


def _has_been_bearer(token: str) -> bool:
    if not token.isascii() or unverified_issuer(token) is None:
        return False
    used = signed_part_hash(token)
    return UsedToken.objects.filter(pk=used, expires_at__gt=utc_now()).exists()


def _second_step(user: User, identity: Identity, claims: Claims) -> str:
    token = mfa_token(user)
    read = read_token(token, MFA)
    SecondStep.objects.create(
        token_id=read.token_id,
        identity=identity,
        provider_session=claims.provider_session,
        expires_at=datetime.fromtimestamp(read.expires_at, timezone.utc),
    )
    return token
