"""A site with a custom user model whose keys are not numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_every_endpoint_works_with_a_custom_user_model(tmp_path):
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    command = [sys.executable, "hosts_site.py"]
    folder = Path(__file__).parent
    result = json.loads(subprocess.check_output(command, cwd=folder, env=environment))
    assert result == {
        "registered": 201,
        "id": result["key"],
        "key": result["key"],
        "shown": True,
        "number": 404,
        "changed": 200,
        "deleted": 204,
        "exported": 200,
        "described": [{"type": "string", "format": "uuid"}] * 2,
        "admin": [302, 200],
        "last": 409,
        "passkeys": False,
        "errors": [],
    }
