"""Variables from the file in ``ENVIRONMENT_FILE``; those of the environment take precedence."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured
from dotenv import dotenv_values


def read_environment_file() -> None:
    """Set the file's variables that are not set yet. No other file is read."""
    path = os.environ.get("ENVIRONMENT_FILE")
    if not path:
        return
    try:
        Path(path).read_bytes()
    except OSError as error:
        raise ImproperlyConfigured(
            f"ENVIRONMENT_FILE names {path}, which can't be read ({type(error).__name__})."
        ) from None
    given = frozenset(os.environ)
    for name, value in dotenv_values(path, interpolate=False).items():
        if value is not None and not _is_given(name, given):
            os.environ[name] = value


def _is_given(name: str, given: Collection[str]) -> bool:
    """Return whether ``name`` is set; ``X`` and ``X_FILE`` both set one variable."""
    other = name.removesuffix("_FILE") if name.endswith("_FILE") else f"{name}_FILE"
    return name in given or other in given
