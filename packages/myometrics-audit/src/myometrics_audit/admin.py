"""The admin pages, where Django looks for them."""

from .listing.admin_pages import (
    AuditLogAdmin,
    EntryCountAdmin,
    ErasureAdmin,
    LeafAdmin,
    SealAdmin,
    VerificationAdmin,
)

__all__ = [
    "AuditLogAdmin",
    "EntryCountAdmin",
    "ErasureAdmin",
    "LeafAdmin",
    "SealAdmin",
    "VerificationAdmin",
]
