"""``dev serve`` and ``dev manage``: the example project."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from myometrics_testing.commands.repository import EXAMPLE


def serve(arguments: Sequence[str]) -> int:
    """Serve the example with demo data at http://localhost:8001 (options: manage.py demo's)."""
    # Demo data must never be written to the database of a production site.
    os.environ.pop("ENVIRONMENT_FILE", None)
    return manage(["demo", *arguments])


def manage(arguments: Sequence[str]) -> int:
    """Run the example's manage.py, with DEBUG unless the environment says otherwise."""
    os.environ.setdefault("DEBUG", "true")
    sys.stdout.flush()
    script = str(EXAMPLE / "manage.py")
    os.execv(sys.executable, [sys.executable, script, *arguments])
