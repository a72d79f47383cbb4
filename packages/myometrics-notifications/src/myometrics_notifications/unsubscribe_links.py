"""Signed links that turn off one switch without authentication (RFC 8058)."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.contrib.auth.base_user import AbstractBaseUser

from myometrics_core.api import SignedLink, link_not_valid
from myometrics_core.users import parse_user_id

from .kinds import NotificationKind, kind_named

_LINK = SignedLink(
    url_name="myometrics_notifications:unsubscribe", salt="myometrics_notifications.unsubscribe"
)


def unsubscribe_token(*, kind: NotificationKind, user: AbstractBaseUser) -> str:
    """Return a token for ``user`` and ``kind``.

    It contains no address, and never expires: links in old mails must keep working.
    """
    return _LINK.token(_payload(kind, user))


def unsubscribe_url(*, kind: NotificationKind, user: AbstractBaseUser) -> str:
    """Return the public unsubscribe URL, on the host of ``MYOMETRICS["API_URL"]``."""
    return _LINK.url(_payload(kind, user))


def read_unsubscribe_token(token: str) -> tuple[NotificationKind, AbstractBaseUser]:
    """Return the kind and the user that ``token`` names.

    Raises ``NotFound`` if the token is invalid, or its user or kind no longer exists.
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


def _payload(kind: NotificationKind, user: AbstractBaseUser) -> list[str]:
    return [str(user.pk), kind.name]
