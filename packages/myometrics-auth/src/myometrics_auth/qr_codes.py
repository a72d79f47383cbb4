"""QR codes for pages of ours."""

from __future__ import annotations

from django.utils.safestring import SafeString, mark_safe

__all__ = ["qr_code_svg"]


def qr_code_svg(text: str) -> SafeString:
    """``text`` as a QR code: an ``<svg>`` for an HTML page, black on white in every theme."""
    # Of all processes only one that shows an enrolment needs the library.
    import segno  # noqa: PLC0415

    code = segno.make(text, error="m", micro=False)
    return mark_safe(code.svg_inline(scale=5, dark="#000", light="#fff"))  # noqa: S308 (no text in it)
