"""Accounts, sessions and second factors in Django's admin site."""

from .records import (
    PasswordResetRequestAdmin,
    RecoveryCodeAdmin,
    SessionAdmin,
    SignInFailuresAdmin,
    TotpDeviceAdmin,
    UsedTokenAdmin,
)
from .users import UserAdmin

__all__ = [
    "PasswordResetRequestAdmin",
    "RecoveryCodeAdmin",
    "SessionAdmin",
    "SignInFailuresAdmin",
    "TotpDeviceAdmin",
    "UsedTokenAdmin",
    "UserAdmin",
]
