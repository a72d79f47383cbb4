"""Signed links that turn one switch off without signing in (RFC 8058)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode, urljoin

from django.contrib.auth import get_user_model
from django.core import signing
from django.urls import reverse
from django.utils.translation import gettext as _
from rest_framework.exceptions import NotFound

from myometrics_core.settings import core_settings
from myometrics_core.users import parse_user_id

from .kinds import NotificationKind, kind_named

__all__ = ["read_unsubscribe_token", "unsubscribe_token", "unsubscribe_url"]

_SALT = "myometrics_notifications.unsubscribe"
_LONGEST_TOKEN = 1000


def unsubscribe_token(*, kind: NotificationKind, user: Any) -> str:
    """A token for ``user`` and ``kind``. It holds no address, and never expires: a mail is kept
    for years, and its link must go on working.
    """
    return signing.dumps([str(user.pk), kind.name], salt=_SALT)


def unsubscribe_url(*, kind: NotificationKind, user: Any) -> str:
    """The public address that does it, on the host of ``MYOMETRICS["API_URL"]``."""
    query = urlencode({"token": unsubscribe_token(kind=kind, user=user)})
    path = reverse("myometrics_notifications:unsubscribe")
    return urljoin(core_settings.API_URL, f"{path}?{query}")


def read_unsubscribe_token(token: str) -> tuple[NotificationKind, Any]:
    """The kind and the user that ``token`` names.

    Raises ``NotFound`` for a token that is not ours, or names nobody or nothing any more.
    """
    kind_name, user_id = _read(token)
    kind = kind_named(kind_name)
    user = get_user_model()._base_manager.filter(pk=user_id).first()
    if kind is None or user is None or not kind.optional:
        raise NotFound(_("This link is not valid."))
    return kind, user


def _read(token: str) -> tuple[str, Any]:
    try:
        if len(token) > _LONGEST_TOKEN:
            raise ValueError("too long")
        user_id, kind_name = signing.loads(token, salt=_SALT)
        return kind_name, parse_user_id(user_id)
    except (signing.BadSignature, ValueError):
        raise NotFound(_("This link is not valid.")) from None
