"""Accounts, sessions and second factors in Django's admin site."""

from .records import (
    RecoveryCodeAdmin,
    SessionAdmin,
    SignInFailuresAdmin,
    TotpDeviceAdmin,
    UsedTokenAdmin,
)
from .users import UserAdmin

__all__ = [
    "RecoveryCodeAdmin",
    "SessionAdmin",
    "SignInFailuresAdmin",
    "TotpDeviceAdmin",
    "UsedTokenAdmin",
    "UserAdmin",
]
