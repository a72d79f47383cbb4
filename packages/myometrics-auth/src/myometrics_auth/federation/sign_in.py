"""Sign-in with a token of an identity provider; the response is that of a sign-in by password."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from myometrics_auth.errors import InvalidToken
from myometrics_auth.models import Session, UsedToken, User
from myometrics_auth.requests import AnyRequest
from myometrics_auth.selectors import has_second_factor
from myometrics_auth.services.sessions import session_start
from myometrics_auth.services.sign_in import SignIn
from myometrics_auth.tokens import MFA, mfa_token, read_token
from myometrics_core.db import atomic_write

from .claims import Claims
from .conf import Provider
from .models import FederatedSession, ForeignToken, Identity, SecondStep
from .provisioning import identity_resolve, lock_user
from .token_hashes import token_hash
from .token_validation import signed_part_hash, validate_access_token, validate_id_token


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

    Raises like :func:`sign_in_with_id_token`; also for a token whose own session was ended.
    """
    known = ForeignToken.objects.filter(pk=token_hash(access_token), state="accepted")
    row = known.select_related("session").first()
    if row is not None and (row.session is None or row.session.ended_at is not None):
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
    with atomic_write():
        session = session_start(
            user=user,
            request=request,
            second_factor=claims.has_second_factor,
            authenticated_at=claims.authenticated_at,
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
