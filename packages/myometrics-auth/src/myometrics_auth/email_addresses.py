"""Validation of e-mail addresses.

Only addresses that are ASCII after folding are accepted, so that a homoglyph can't imitate another
account.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.utils.translation import gettext_lazy as _

from myometrics_core.users import fold_email, has_ambiguous_domain

MAX_EMAIL_LENGTH = 254


def checked_email(address: str) -> str:
    """Return the folded address; raise ``ValidationError`` if it is invalid."""
    folded = fold_email(address)
    if len(folded) > MAX_EMAIL_LENGTH:
        raise ValidationError(_("Enter a valid email address."), code="invalid")
    validate_email(folded)
    return folded


def clean_email(address: str) -> str:
    """Return a new address in its stored form.

    Raises ``ValidationError`` for an invalid address and for non-ASCII characters that don't fold
    to ASCII, such as homoglyphs (a Cyrillic ``а``, a dotless ``ı``). Also rejects ambiguous domains
    (``straße.example`` is not ``strasse.example``) and control characters, which Django's validator
    accepts in quotes.
    """
    folded = checked_email(address)
    if not (folded.isascii() and folded.isprintable()) or has_ambiguous_domain(address):
        raise ValidationError(
            _("Use an address in plain letters; write an international domain as xn--…"),
            code="not_ascii",
        )
    return folded
