"""One-time tokens: each is remembered once it was used, until it expires."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from django.db import IntegrityError

from myometrics_auth.errors import invalid_token_error
from myometrics_auth.models import UsedToken
from myometrics_auth.tokens import TokenClaims
from myometrics_core.times import utc_now

__all__ = ["token_is_used", "token_use", "used_tokens_sweep"]


def token_is_used(claims: TokenClaims) -> bool:
    """Return whether the token was used before."""
    return UsedToken.objects.filter(pk=claims.token_id).exists()


def token_use(claims: TokenClaims) -> None:
    """Use the token up, within the transaction of what it is used for.

    Raises ``AuthenticationFailed`` if another transaction has used it concurrently.
    """
    expires_at = datetime.fromtimestamp(claims.expires_at, timezone.utc)
    try:
        UsedToken.objects.create(token_id=claims.token_id, expires_at=expires_at)
    except IntegrityError as error:
        raise invalid_token_error() from error


def used_tokens_sweep() -> int:
    """Delete those that expired by themselves more than a day ago; how many.

    Not at once: a clock that is put back makes their tokens good again.
    """
    before = utc_now() - timedelta(days=1)
    return int(UsedToken.objects.filter(expires_at__lt=before).delete()[0])
