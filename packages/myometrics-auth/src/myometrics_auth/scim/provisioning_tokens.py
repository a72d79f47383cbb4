"""Bearer tokens of identity providers: create, list, revoke, recognize."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ValidationError

from myometrics_core.api import Conflict
from myometrics_core.db import atomic_write
from myometrics_core.times import utc_now

from .conf import providers
from .models import MAX_TOKENS, ProvisioningToken

PREFIX = "scim_"
USED_AT_INTERVAL = timedelta(hours=1)


def token_create(*, provider: str, lifetime: timedelta) -> tuple[ProvisioningToken, str]:
    """Create a token; return its row and the token itself, which is not stored.

    Raises ``ValidationError`` for a provider without settings, ``Conflict`` if it has two live
    tokens already.
    """
    if provider not in providers():
        raise ValidationError({"provider": [_("There is no such provider in the settings.")]})
    text = PREFIX + secrets.token_urlsafe(32)
    expires_at = utc_now() + lifetime
    with atomic_write():
        ProvisioningToken.objects.filter(provider=provider, expires_at__lte=utc_now()).delete()
        for slot in range(1, MAX_TOKENS + 1):
            try:
                with transaction.atomic():
                    token = ProvisioningToken.objects.create(
                        provider=provider,
                        slot=slot,
                        token_hash=_hash(text),
                        expires_at=expires_at,
                    )
            except IntegrityError:  # the slot is taken
                continue
            return token, text
    raise Conflict(_("The provider has two tokens; revoke one first."), "too_many_tokens")


def tokens_live() -> QuerySet[ProvisioningToken]:
    """Return the tokens that are accepted."""
    live = ProvisioningToken.objects.filter(expires_at__gt=utc_now())
    return live.order_by("provider", "created_at")


def token_revoke(*, token_id: str) -> bool:
    """Delete a token; return whether it existed."""
    return bool(ProvisioningToken.objects.filter(pk=token_id).delete()[0])


def token_find(text: str) -> ProvisioningToken | None:
    """Return the live token with this text, and note its use; ``None`` if there is none."""
    now = utc_now()
    token = ProvisioningToken.objects.filter(token_hash=_hash(text), expires_at__gt=now).first()
    if token is None or token.provider not in providers():
        return None
    before = now - USED_AT_INTERVAL
    if token.used_at is None or token.used_at <= before:
        is_due = Q(used_at=None) | Q(used_at__lte=before)
        ProvisioningToken.objects.filter(is_due, pk=token.pk).update(used_at=now)
    return token


def _hash(text: str) -> str:
    # Not salted: the token has 256 random bits.
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
