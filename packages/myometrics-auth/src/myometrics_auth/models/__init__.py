"""Models of auth."""

from .address_ownerships import (
    AddressOwnership,
    AddressOwnershipQuerySet,
    register_linked_addresses,
)
from .addresses import EmailChange, EmailChangeQuerySet, Invitation, InvitationQuerySet
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
    "AddressOwnershipQuerySet",
    "EmailChange",
    "EmailChangeQuerySet",
    "Invitation",
    "InvitationQuerySet",
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
