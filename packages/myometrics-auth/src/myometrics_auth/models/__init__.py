"""Models of auth."""

from .login_throttle import SignInFailures
from .second_factor import RecoveryCode, TotpDevice
from .sessions import Session, SessionQuerySet
from .used_tokens import UsedToken
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
