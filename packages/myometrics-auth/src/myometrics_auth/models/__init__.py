"""Models of auth."""

from .sign_in import RecoveryCode, Session, SessionQuerySet, SignInFailures, TotpDevice, UsedToken
from .users import AbstractClinicUser, Role, User, UserManager, UserQuerySet

__all__ = [
    "AbstractClinicUser",
    "RecoveryCode",
    "Role",
    "Session",
    "SessionQuerySet",
    "SignInFailures",
    "TotpDevice",
    "UsedToken",
    "User",
    "UserManager",
    "UserQuerySet",
]
