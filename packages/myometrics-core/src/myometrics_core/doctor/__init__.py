"""Examinations of ``manage.py myometrics_doctor``."""

from __future__ import annotations

from .registry import Diagnosis, describe_age, register_examination

__all__ = ["Diagnosis", "describe_age", "register_examination"]
