"""Paths of this repository."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
PACKAGES = ROOT / "packages"
EXAMPLE = ROOT / "example_project"
PREFIX = "myometrics-"


def package_folders() -> dict[str, Path]:
    """Return the published packages' folders by short name: ``{"audit": Path("…-audit")}``."""
    folders = sorted(path.parent for path in PACKAGES.glob("*/pyproject.toml"))
    return {folder.name.removeprefix(PREFIX): folder for folder in folders}


def clean_environment(**changes: str) -> dict[str, str]:
    """Return ``os.environ`` without settings, database and server URLs, plus ``changes``."""
    dropped = {
        "DATABASE_URL",
        "DJANGO_SETTINGS_MODULE",
        "ENVIRONMENT_FILE",
        "REDIS_URL",
        "TEST_DATABASE",
    }
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return {**kept, **changes}
