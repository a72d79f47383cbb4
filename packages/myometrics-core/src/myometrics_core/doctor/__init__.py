"""Examinations of ``manage.py myometrics_doctor``."""

from __future__ import annotations

from .registry import (
    Diagnosis,
    State,
    covered_checks,
    describe_age,
    register_examination,
    run_examinations,
)

__all__ = [
    "Diagnosis",
    "State",
    "covered_checks",
    "describe_age",
    "register_examination",
    "run_examinations",
]
