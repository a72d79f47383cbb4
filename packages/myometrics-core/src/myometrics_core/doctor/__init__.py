"""Examinations of ``manage.py myometrics_doctor``."""

from .registry import Diagnosis, describe_age, register_examination

__all__ = ["Diagnosis", "describe_age", "register_examination"]
