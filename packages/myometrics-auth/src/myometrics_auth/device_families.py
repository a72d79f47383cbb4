"""The family of a device: browser and operating system, from the ``User-Agent`` header.

The table is short on purpose: notices and the list of known devices need "Firefox, Windows", not
versions. The result consists of our words only, so a mail can contain it.
"""

from __future__ import annotations

from typing import Final

MAX_FAMILY_LENGTH: Final = 60

# The first match counts: most browsers also name Chrome or Safari, Android also names Linux.
BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
)
SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("CrOS", "ChromeOS"),
    ("Macintosh", "macOS"),
    ("Darwin/", "Apple"),
    ("Linux", "Linux"),
)


def device_family(user_agent: str) -> str:
    """Return browser and system such as ``Firefox, Windows``; ``""`` if neither is known."""
    names = (_first(BROWSERS, user_agent), _first(SYSTEMS, user_agent))
    return ", ".join(filter(None, names))


def _first(table: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for part, name in table if part in user_agent), "")
