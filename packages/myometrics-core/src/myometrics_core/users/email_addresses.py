"""Canonical form of e-mail addresses.

Compatibility variants (full-width letters, ligatures, the Kelvin sign) and case are folded, and an
internationalized domain is converted to its ASCII form.
"""

from __future__ import annotations

import re
import unicodedata
from contextlib import suppress
from typing import Final

_AT_SIGNS: Final = re.compile("[@\ufe6b\uff20]")
_FULL_STOPS: Final = re.compile("[.\u3002\uff0e\uff61]")
# The deviation characters of UTS #46: IDNA 2003 maps them away, IDNA 2008 keeps them.
_DEVIATIONS: Final = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")


def fold_text(text: str) -> str:
    """Return ``text`` without case and compatibility distinctions: NFKC, case-folded, NFKC."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def has_ambiguous_domain(address: str) -> bool:
    """Return whether folding the domain of ``address`` could yield another owner's domain.

    True for ß, ς and the zero-width joiners, which the versions of IDNA map differently
    (``straße.example`` is ``strasse.example`` only in IDNA 2003), and for characters that NFKC
    turns into a full stop (``⒈``).
    """
    domain = _AT_SIGNS.split(address)[-1]
    compatible = unicodedata.normalize("NFKC", domain)
    has_new_stops = len(_FULL_STOPS.findall(compatible)) != len(_FULL_STOPS.findall(domain))
    return has_new_stops or bool(_DEVIATIONS.search(compatible))


def fold_email(address: str) -> str:
    """Return ``address`` folded and stripped; an ambiguous domain is lowercased. Never raises."""
    if not has_ambiguous_domain(address):
        return fold_text(address).strip()
    domain = _AT_SIGNS.split(address)[-1]
    before = address[: len(address) - len(domain)]
    return f"{fold_text(before)}{domain.lower()}".strip()


def canonical_email(address: str) -> str:
    """Return the canonical form that all spellings of an e-mail address share. Never raises.

    The canonical form of an address with an ambiguous domain never equals that of an address
    without.
    """
    folded = fold_email(address)
    if has_ambiguous_domain(folded):
        return folded
    local, at, domain = folded.rpartition("@")
    with suppress(UnicodeError):
        domain = domain if domain.isascii() else domain.encode("idna").decode("ascii")
    return f"{local}{at}{domain}".strip()
