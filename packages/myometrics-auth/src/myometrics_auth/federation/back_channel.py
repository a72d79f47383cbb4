"""Logout by the provider (OpenID Connect Back-Channel Logout 1.0)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.errors import InvalidToken
from myometrics_auth.events import publish_session_events
from myometrics_auth.models import Session
from myometrics_auth.requests import AnyRequest
from myometrics_core.db import atomic_write
from myometrics_core.users import lock_users_shared

from .conf import Provider
from .models import FederatedSession
from .sign_in import token_use_once
from .token_hashes import token_hash
from .token_validation import LOGOUT_SECONDS, validate_logout_token


def provider_logout(*, provider: Provider, logout_token: str, request: AnyRequest) -> int:
    """End the sessions of the token's ``sid``, or all of its ``sub``; return their number.

    With both, also sessions of the ``sub`` whose ``sid`` is unknown. Raises ``ValidationError`` on
    ``logout_token`` if it is invalid or was used before.
    """
    try:
        values = validate_logout_token(provider, logout_token)
        expires_at = float(values.get("exp") or values["iat"] + LOGOUT_SECONDS)
        with atomic_write():
            named = _named_sessions(provider, values)
            users = lock_users_shared(named.values_list("session__user_id", flat=True))
            used = token_hash(f"{provider.issuer} {values['jti']}")
            token_use_once(token_id=used, expires_at=expires_at)
            live = list(Session.objects.live().filter(user_id__in=users, federated__in=named))
            Session.objects.filter(pk__in=[session.pk for session in live]).end()
            details = {"provider": provider.slug}
            publish_session_events("logout", sessions=live, request=request, details=details)
    except InvalidToken as error:
        problem = _("The token is invalid or was used before.")
        raise ValidationError({"logout_token": [problem]}) from error
    return len(live)


def _named_sessions(provider: Provider, values: Mapping[str, Any]) -> Any:
    sessions = FederatedSession.objects.filter(identity__issuer=provider.issuer)
    if "sub" in values:
        sessions = sessions.filter(identity__subject=values["sub"])
    if "sid" in values:
        is_named = Q(provider_session=values["sid"])
        if "sub" in values:
            is_named |= Q(provider_session="")
        sessions = sessions.filter(is_named)
    return sessions
