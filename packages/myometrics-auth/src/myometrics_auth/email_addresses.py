"""Which e-mail addresses people may register with.

Those that are ASCII once folded; so nothing in the database can pass for another account by a
foreign letter.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from myometrics_core.email_addresses import fold_email, has_ambiguous_domain

__all__ = ["checked_email", "clean_email"]

LONGEST_EMAIL = 254


def checked_email(address: str) -> str:
    """The folded form of an address; raises ``ValidationError`` when it is none."""
    folded = fold_email(address)
    if len(folded) > LONGEST_EMAIL:
        raise ValidationError(_("Enter a valid email address."), code="invalid")
    validate_email(folded)
    return folded


def clean_email(address: str) -> str:
    """A new address in the form in which it is stored.

    Raises ``ValidationError`` when it is no address, or holds letters beyond ASCII that do not
    fold into it: look-alikes (a Cyrillic ``а``, a dotless ``ı``) must not stand beside the real.
    An ambiguous domain is refused too (``straße.example`` is not ``strasse.example``), and so are
    control characters, which Django's validator accepts in quotes.
    """
    folded = checked_email(address)
    if not (folded.isascii() and folded.isprintable()) or has_ambiguous_domain(address):
        raise ValidationError(
            _("Use an address in plain letters; write an international domain as xn--…"),
            code="not_ascii",
        )
    return folded
