"""Proofs in a storage: one file of JSON Lines for each seal."""

from __future__ import annotations

from django.core.files.storage import storages

from ..log.models import Seal
from ..sealing import proof_lines
from ..sealing.export.stored_files import write_file
from .options import StreamOptions
from .pending import log_alias, selected_entries


def next_seal_number(since: int) -> int | None:
    """Return the number of the first seal from ``since`` on."""
    seals = Seal.objects.using(log_alias()).filter(number__gte=since).order_by("number")
    return seals.values_list("number", flat=True).first()


def write_seal(options: StreamOptions, number: int) -> int:
    """Write the file of a seal, which can be repeated; return the number of its entries."""
    entries = selected_entries(options)
    lines = list(proof_lines(entries, using=log_alias(), only_seal=number))
    folder = options.parts.path.strip("/")
    path = f"{folder}/{number:09}.jsonl".lstrip("/")
    content = "".join(line + "\n" for line in lines).encode("utf-8")
    write_file(storages[options.parts.netloc], path, content)
    return sum(line.startswith('{"type": "entry"') for line in lines)
