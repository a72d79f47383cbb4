"""Sign-in at a provider by authorization code with PKCE (RFC 6749, RFC 7636), for a front end."""

from __future__ import annotations

import base64
import hashlib
import logging
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from django.conf import settings as django_settings
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_auth.errors import InvalidToken
from myometrics_auth.requests import AnyRequest
from myometrics_auth.services.reauthentication import ReauthenticationRequired
from myometrics_auth.services.sign_in import SignIn
from myometrics_core.conf import core_settings
from myometrics_core.times import utc_now
from myometrics_core.users import keyed_hash

from .claims import LEEWAY, Claims
from .conf import Provider, is_fetchable
from .discovery import client_authentication, endpoint
from .errors import ProviderUnavailable
from .models import SignInFlow
from .provider_requests import fetch_json
from .sign_in import sign_in_by_claims
from .token_hashes import token_hash
from .token_validation import validate_id_token

logger = logging.getLogger("myometrics.auth.federation")

LASTS: Final = timedelta(minutes=10)
NEW_SIGN_IN: Final = {"prompt": "login", "max_age": "0"}
"""Parameters that ask for a new sign-in; ``max_age`` also asks for ``auth_time``."""


def flow_start(
    *, provider: Provider, redirect_uri: str, reauthenticate: bool = False
) -> tuple[str, str]:
    """Return the provider's authorization URL, and the secret that finishes the sign-in.

    With ``reauthenticate`` the user has to sign in at the provider now, even with a session there.
    Raises ``ProviderUnavailable``.
    """
    url = endpoint(provider, "authorization_endpoint")
    state, flow = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    SignInFlow.objects.create(
        state_hash=token_hash(state),
        flow_hash=token_hash(flow),
        provider=provider.slug,
        redirect_uri=redirect_uri,
        authenticated_after=utc_now() - timedelta(seconds=LEEWAY) if reauthenticate else None,
        expires_at=utc_now() + LASTS,
    )
    challenge = hashlib.sha256(_verifier(flow).encode()).digest()
    query = {
        "response_type": "code",
        "client_id": provider.client_id,
        "redirect_uri": redirect_uri,
        "scope": " ".join(provider.scopes),
        "state": state,
        "nonce": _nonce(flow),
        "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
        **(NEW_SIGN_IN if reauthenticate else {}),
    }
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}", flow


def flow_finish(
    *, provider: Provider, code: str, state: str, flow: str, request: AnyRequest
) -> SignIn:
    """Exchange the code of a sign-in for the provider's tokens, and sign in.

    Raises ``ValidationError`` on ``state`` if state and flow don't belong together or were used,
    and on ``code`` if the provider refuses it; ``ReauthenticationRequired`` if a new sign-in was
    asked for and the ID token shows none; and the exceptions of ``identity_resolve``.
    """
    claims, id_token = flow_take(provider=provider, code=code, state=state, flow=flow)
    return sign_in_by_claims(claims=claims, request=request, id_token=id_token)


def flow_take(*, provider: Provider, code: str, state: str, flow: str) -> tuple[Claims, str]:
    """Use up a flow: return the claims of its ID token, and the token; raises like ``finish``."""
    pending = _use_up(provider, state=state, flow=flow)
    tokens = _exchange(provider, code=code, redirect_uri=pending.redirect_uri, flow=flow)
    id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
    if not isinstance(id_token, str):
        raise _wrong_code()
    try:
        claims = validate_id_token(
            provider,
            id_token,
            nonce=_nonce(flow),
            access_token=access_token if isinstance(access_token, str) else "",
        )
    except InvalidToken as error:
        raise _wrong_code() from error
    # The browser can remove the parameters that ask for a new sign-in.
    after, moment = pending.authenticated_after, claims.authenticated_at
    if after is not None and (moment is None or moment < after):
        raise ReauthenticationRequired(_("The provider did not ask you to sign in again."))
    return claims, id_token


def front_end_origins() -> set[str]:
    """Return the origins of the front end: of ``FRONTEND_URL``, and those allowed by CORS."""
    allowed = getattr(django_settings, "CORS_ALLOWED_ORIGINS", None) or ()
    return {_origin(url) for url in (core_settings.FRONTEND_URL, *allowed)} - {""}


def redirect_uri_problem(redirect_uri: str) -> str | None:
    """Return why the provider must not redirect there; ``None`` for a page of the front end."""
    is_plain = is_fetchable(redirect_uri) and "\\" not in redirect_uri
    if is_plain and _origin(redirect_uri) in front_end_origins():
        return None
    return str(_("Must be a page of the front end, whose origins the site allows."))


def _origin(url: str) -> str:
    try:
        parts = urlsplit(str(url))
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.hostname}:{port}" if parts.hostname else ""


def _use_up(provider: Provider, *, state: str, flow: str) -> SignInFlow:
    rows = SignInFlow.objects.filter(
        pk=token_hash(state),
        flow_hash=token_hash(flow),
        provider=provider.slug,
        expires_at__gt=utc_now(),
    )
    pending = rows.first()
    if pending is None or not rows.delete()[0]:
        raise ValidationError({"state": [_("The sign-in has expired. Begin it again.")]})
    return pending


def _exchange(provider: Provider, *, code: str, redirect_uri: str, flow: str) -> Mapping[str, Any]:
    name = "token_endpoint"
    authentication = client_authentication(provider, name)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect_uri,
        "code_verifier": _verifier(flow),
    }
    if not authentication:
        form["client_id"] = provider.client_id
    response = fetch_json(provider, endpoint(provider, name), form=form, client_auth=authentication)
    if response.status == 200:
        return response.body
    if response.body.get("error") == "invalid_grant":
        raise _wrong_code()
    logger.error("The provider %r refuses our client: %s", provider.slug, response.status)
    raise ProviderUnavailable


def _wrong_code() -> ValidationError:
    return ValidationError({"code": [_("The provider does not accept the code.")]})


def _verifier(flow: str) -> str:
    # Derived, so that the database does not store it.
    return keyed_hash("PKCE verifier", flow)


def _nonce(flow: str) -> str:
    return keyed_hash("OpenID nonce", flow)
