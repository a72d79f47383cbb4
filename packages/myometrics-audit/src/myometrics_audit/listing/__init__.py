"""Reading the log: filters, exact counts, deep pages, the API and the admin pages."""

from __future__ import annotations

from .pages import entries_count, entries_page
from .selection import Selection, entries_select

__all__ = ["Selection", "entries_count", "entries_page", "entries_select"]
