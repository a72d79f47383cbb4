"""For every kind of listening address, gunicorn binds it and the health check reaches it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from fresh_process import SECRET
from running_site import PROJECT

from myometrics_testing.services import free_port
from myometrics_testing.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.any_database

APPLICATION = """
def application(environ, start_response):
    found = environ["PATH_INFO"] == "/livez" and environ["HTTP_HOST"] == "api.clinic.example"
    start_response("200 OK" if found else "404 Not Found", [])
    return [b""]
"""


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "localhost", "[::1]", "::1", "[::]"])
def test_health_check_reaches_web_server_at_any_host(tmp_path, host):
    (tmp_path / "listening.py").write_text(APPLICATION)
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOST": host,
        "PORT": str(port),
        "WEB_CONCURRENCY": "1",
        "ALLOWED_HOSTS": "api.clinic.example,localhost",
        "SECRET_KEY": SECRET,
        "DATA_DIR": str(tmp_path),
    }
    gunicorn = [str(Path(sys.executable).with_name("gunicorn")), "--config=python:config.gunicorn"]
    server = subprocess.Popen(
        [*gunicorn, f"--pythonpath={tmp_path},{PROJECT}", "listening:application"],
        cwd=PROJECT,
        env=environment,
    )

    def health_check():
        command = [sys.executable, "healthcheck.py"]
        return subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode

    try:
        wait_for(lambda: server.poll() is not None or health_check() == 0)
        assert server.poll() is None
    finally:
        server.terminate()
        server.wait(timeout=PATIENCE)
    assert health_check() == 1
