"""One-time tokens: a used token is stored until it expires."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from django.db import IntegrityError

from myometrics_auth.errors import invalid_token_error
from myometrics_auth.models import UsedToken
from myometrics_auth.tokens import TokenClaims
from myometrics_core.times import utc_now

__all__ = ["token_use", "used_tokens_sweep"]


def token_use(claims: TokenClaims) -> None:
    """Use up the token, in the transaction of the action it authorises.

    Raises ``AuthenticationFailed`` if another transaction used it concurrently.
    """
    expires_at = datetime.fromtimestamp(claims.expires_at, timezone.utc)
    try:
        UsedToken.objects.create(token_id=claims.token_id, expires_at=expires_at)
    except IntegrityError as error:
        raise invalid_token_error() from error


def used_tokens_sweep() -> int:
    """Delete rows of tokens that expired more than a day ago; return their number.

    The margin covers a clock that is set back, which makes expired tokens valid again.
    """
    before = utc_now() - timedelta(days=1)
    return int(UsedToken.objects.filter(expires_at__lt=before).delete()[0])
