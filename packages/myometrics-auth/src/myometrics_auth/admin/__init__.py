"""Accounts, sessions and second factors in Django's admin site."""

from .invitations import InvitationAdmin
from .records import (
    EmailChangeAdmin,
    RecoveryCodeAdmin,
    SessionAdmin,
    SignInFailuresAdmin,
    TotpDeviceAdmin,
    UsedTokenAdmin,
)
from .users import UserAdmin

__all__ = [
    "EmailChangeAdmin",
    "InvitationAdmin",
    "RecoveryCodeAdmin",
    "SessionAdmin",
    "SignInFailuresAdmin",
    "TotpDeviceAdmin",
    "UsedTokenAdmin",
    "UserAdmin",
]
