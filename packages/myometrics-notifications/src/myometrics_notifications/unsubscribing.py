"""Signed links that turn one switch off without signing in (RFC 8058)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model

from myometrics_core.users import parse_user_id

from .kinds import NotificationKind, kind_named
from .signed_links import SignedLink, link_not_valid

__all__ = ["read_unsubscribe_token", "unsubscribe_token", "unsubscribe_url"]

_LINK = SignedLink(
    url_name="myometrics_notifications:unsubscribe", salt="myometrics_notifications.unsubscribe"
)


def unsubscribe_token(*, kind: NotificationKind, user: Any) -> str:
    """A token for ``user`` and ``kind``. It holds no address, and never expires: a mail is kept
    for years, and its link must go on working.
    """
    return _LINK.token(_payload(kind, user))


def unsubscribe_url(*, kind: NotificationKind, user: Any) -> str:
    """The public address that does it, on the host of ``MYOMETRICS["API_URL"]``."""
    return _LINK.url(_payload(kind, user))


def read_unsubscribe_token(token: str) -> tuple[NotificationKind, Any]:
    """The kind and the user that ``token`` names.

    Raises ``NotFound`` for a token that is not ours, or names nobody or nothing any more.
    """
    try:
        user_id, kind_name = _LINK.read(token)
        user = get_user_model()._base_manager.filter(pk=parse_user_id(user_id)).first()
    except ValueError:
        raise link_not_valid() from None
    kind = kind_named(kind_name)
    if kind is None or user is None or not kind.optional:
        raise link_not_valid()
    return kind, user


def _payload(kind: NotificationKind, user: Any) -> list[str]:
    return [str(user.pk), kind.name]
