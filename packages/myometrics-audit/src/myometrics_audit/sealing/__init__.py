"""Seals and erasures; verification and export of the log with its evidence."""

from __future__ import annotations

from .export import export_problems, fhir_lines, proof_lines
from .seals import SealProgress, seal_pending
from .verification import LogVerifier, Problem, verification_record

__all__ = [
    "LogVerifier",
    "Problem",
    "SealProgress",
    "export_problems",
    "fhir_lines",
    "proof_lines",
    "seal_pending",
    "verification_record",
]
