"""Export of the log: JSON Lines with proofs, and FHIR AuditEvents."""

from .export_check import export_problems
from .fhir import fhir_lines
from .proofs import archive_lines, proof_lines

__all__ = ["archive_lines", "export_problems", "fhir_lines", "proof_lines"]
