"""Models of auth."""

from .sessions import Session, SessionQuerySet
from .sign_in import RecoveryCode, SignInFailures, TotpDevice, UsedToken
from .user_queries import UserQuerySet
from .users import AbstractClinicUser, Role, User, UserManager

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
