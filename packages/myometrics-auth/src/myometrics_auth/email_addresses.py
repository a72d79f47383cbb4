"""One form per mailbox: what makes two e-mail addresses the same account.

Compatibility variants (full-width letters, ligatures, the Kelvin sign) and case fold together,
and an international domain folds into its ASCII form. People register with addresses that are
ASCII once folded; so nothing in the database can pass for another account by a foreign letter.
"""

from __future__ import annotations

import unicodedata

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

__all__ = ["canonical_email", "checked_email", "clean_email", "fold_text"]

LONGEST_EMAIL = 254


def fold_text(text: str) -> str:
    """``text`` without distinctions of case and compatibility: NFKC, case-folded, NFKC."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return unicodedata.normalize("NFKC", folded)


def canonical_email(address: str) -> str:
    """The form under which an address is unique. Takes any text, never raises."""
    local, at, domain = fold_text(address).strip().rpartition("@")
    return f"{local}{at}{_ascii_domain(domain)}"


def checked_email(address: str) -> str:
    """The folded form of an address; raises ``ValidationError`` when it is none."""
    folded = fold_text(address).strip()
    if len(folded) > LONGEST_EMAIL:
        raise ValidationError(_("Enter a valid email address."), code="invalid")
    validate_email(folded)
    return folded


def clean_email(address: str) -> str:
    """A new address in the form in which it is stored.

    Raises ``ValidationError`` when it is no address, or holds letters beyond ASCII that do not
    fold into it: look-alikes (a Cyrillic ``а``, a dotless ``ı``) must not stand beside the real.
    """
    folded = checked_email(address)
    if not folded.isascii():
        raise ValidationError(
            _("Use an address in plain letters; write an international domain as xn--…"),
            code="not_ascii",
        )
    return folded


def _ascii_domain(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain
