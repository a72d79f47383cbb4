"""QR codes for HTML pages."""

from __future__ import annotations

import segno
from django.utils.safestring import SafeString, mark_safe

__all__ = ["qr_code_svg"]


def qr_code_svg(text: str) -> SafeString:
    """Return ``text`` as a QR code: an ``<svg>`` for HTML, black on white in every theme."""
    drawing = segno.make(text, error="m", micro=False).svg_inline(
        scale=5, dark="#000", light="#fff"
    )
    return mark_safe(drawing)  # noqa: S308 (shapes alone, no text)
