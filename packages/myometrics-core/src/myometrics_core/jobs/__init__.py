"""Background jobs."""

from __future__ import annotations

from .background import enqueue

__all__ = ["enqueue"]
