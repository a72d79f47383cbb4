"""Verification of the whole log against its evidence: streaming, in constant memory."""

from .problems import Problem
from .verifier import LogVerifier, verification_record

__all__ = ["LogVerifier", "Problem", "verification_record"]
