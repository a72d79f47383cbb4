"""The models, where Django looks for them."""

from .log.models import AuditLog, EntryCount, Erasure, Leaf, Seal, Verification

__all__ = ["AuditLog", "EntryCount", "Erasure", "Leaf", "Seal", "Verification"]
