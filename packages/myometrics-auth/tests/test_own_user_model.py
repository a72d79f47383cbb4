"""A site with a user model of its own, derived from ours, with keys that are no numbers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_every_endpoint_works_with_a_user_model_of_the_host(tmp_path):
    environment = {**os.environ, "DATABASE_URL": f"sqlite:///{tmp_path / 'db.sqlite3'}"}
    command = [sys.executable, "hosts_site.py"]
    folder = Path(__file__).parent
    told = json.loads(subprocess.check_output(command, cwd=folder, env=environment))
    assert told == {
        "registered": 201,
        "id": told["key"],
        "key": told["key"],
        "shown": True,
        "number": 404,
        "changed": 200,
        "deleted": 204,
        "exported": 200,
        "described": [{"type": "string", "format": "uuid"}] * 2,
        "admin": [302, 200],
        "last": 409,
        "errors": [],
    }
