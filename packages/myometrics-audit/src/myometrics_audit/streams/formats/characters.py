"""Characters that the formats can't transport."""

from __future__ import annotations

from typing import Final

VISIBLE_CONTROLS: Final = {
    **{code: 0x2400 + code for code in range(0x20)},
    0x7F: 0x2421,
    0xFFFE: 0xFFFD,
    0xFFFF: 0xFFFD,
}
"""Control characters → their Unicode pictures, such as ``␀``; noncharacters → ``�``."""
