"""Read queries of passkeys."""

from __future__ import annotations

from django.db.models import QuerySet

from myometrics_auth.models import User

from .models import Passkey


def passkeys_of(*, user: User) -> QuerySet[Passkey]:
    """Return the passkeys of ``user``, oldest first."""
    return Passkey.objects.filter(user=user).order_by("created_at", "pk")
