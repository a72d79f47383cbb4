"""Models of auth."""

from .address_ownerships import (
    AddressOwnership,
    register_linked_addresses,
)
from .addresses import EmailChange, Invitation
from .sign_in import (
    KnownDevice,
    RecoveryCode,
    Session,
    SessionQuerySet,
    SignInFailures,
    TotpDevice,
    UsedToken,
)
from .users import AbstractClinicUser, Role, User, UserManager, UserQuerySet

__all__ = [
    "AbstractClinicUser",
    "AddressOwnership",
    "EmailChange",
    "Invitation",
    "KnownDevice",
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
    "register_linked_addresses",
]
