"""Daily rollups of the facts: folding, rebuild, self-check and counting."""

from __future__ import annotations

from .folding import changes_fold
from .rebuilding import rebuild_run
from .self_check import rollups_check

__all__ = ["changes_fold", "rebuild_run", "rollups_check"]
