"""Create and verify the links of reset mails."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import PasswordResetTokenGenerator
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode

from myometrics_core.conf import core_settings
from myometrics_core.users import parse_user_id

from .conf import auth_settings
from .models import User


class ResetTokens(PasswordResetTokenGenerator):
    """Django's reset tokens, valid until the password or the address changes.

    They expire after ``PASSWORD_RESET_TIMEOUT`` seconds. A login with the old password does not
    invalidate them. For a self-registered account that was never verified, a new password does not
    either: another user who registered it could otherwise invalidate the owner's link. The reset
    verifies the account, which does.
    """

    key_salt = "myometrics_auth.reset_links.ResetTokens"

    def _make_hash_value(self, user: User, timestamp: int) -> str:
        is_owned = user.verified_at is not None or not user.self_registered
        state = user.password if is_owned else "unverified"
        return f"{user.pk}{state}{timestamp}{user.email_canonical}"


_tokens = ResetTokens()


def reset_link(user: User) -> str:
    """Return the URL of the front end's reset page with ``uid`` and ``token`` in its query."""
    uid = urlsafe_base64_encode(force_bytes(str(user.pk)))
    query = urlencode({"uid": uid, "token": _tokens.make_token(user)})
    base = str(core_settings.FRONTEND_URL).rstrip("/")
    return f"{base}{auth_settings.PASSWORD_RESET_PATH}?{query}"


def user_of_reset_link(uid: str, token: str) -> User | None:
    """Return the active user of a valid link, else ``None``; accepts arbitrary text."""
    try:
        key = parse_user_id(urlsafe_base64_decode(uid).decode("ascii"))
    except ValueError:
        return None
    user = get_user_model().objects.filter(pk=key, is_active=True).first()
    return user if user is not None and _tokens.check_token(user, token) else None
