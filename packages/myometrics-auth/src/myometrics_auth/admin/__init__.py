"""Accounts, sessions and second factors in Django's admin site."""

from .people import UserAdmin
from .records import (
    PasswordResetRequestAdmin,
    RecoveryCodeAdmin,
    SessionAdmin,
    SignInFailuresAdmin,
    TotpDeviceAdmin,
    UsedTokenAdmin,
)

__all__ = [
    "PasswordResetRequestAdmin",
    "RecoveryCodeAdmin",
    "SessionAdmin",
    "SignInFailuresAdmin",
    "TotpDeviceAdmin",
    "UsedTokenAdmin",
    "UserAdmin",
]
