"""A browser, and the TypeScript client built against the schema of this very code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from running_site import RunningSite

from myometrics_testing.browser import (  # noqa: F401
    chromium,
    make_browser,
    required_program,
)
from myometrics_testing.commands.repository import ROOT

CLIENT = ROOT / "clients" / "typescript"
NODE = "Node.js 20 or newer with npm (apt-get install nodejs npm, or from nodejs.org)"
OURS = shutil.ignore_patterns("node_modules", "dist", "openapi.json", "schema.d.ts")


class Front(SimpleHTTPRequestHandler):
    """Serves the folder, and keeps quiet about it."""

    extensions_map = {".mjs": "text/javascript", ".js": "text/javascript", ".html": "text/html"}

    def log_message(self, *arguments):
        pass


class Typescript:
    """A copy of the client in ``folder``, with what its lock file names."""

    def __init__(self, folder):
        self.folder = folder
        shutil.copytree(CLIENT, folder, ignore=OURS)

    def npm(self, *words, status=0):
        """What an npm command prints; it must end with ``status``."""
        program = required_program("npm", install=NODE)
        done = subprocess.run(
            [program, *words], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def front_end():
    """A web server for a folder to come; other origin than the site's."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Front)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def origin(front_end):
    """Where the front end lives, as the site's CORS settings know it."""
    return f"http://localhost:{front_end.server_port}"


@pytest.fixture(scope="session")
def site(origin, tmp_path_factory):
    """The composed site on SQLite, which lets the front end's origin in."""
    folder = tmp_path_factory.mktemp("site")
    running = RunningSite(folder, f"sqlite:///{folder / 'site.sqlite3'}", None)
    running.environment["CORS_ALLOWED_ORIGINS"] = origin
    # So that the schema has the endpoints of identity providers; it is never called.
    providers = {"google": {"issuer": "https://provider.example", "client_id": "client"}}
    running.environment["IDENTITY_PROVIDERS"] = json.dumps(providers)
    running.environment["ROTATE_REFRESH_TOKENS"] = "true"
    # At five a minute the sixth of a slow machine may come in the next minute.
    running.environment["RATE_LIMIT_AUTH"] = "5/hour"
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def typescript(site, front_end, tmp_path_factory):
    """The client as its page in the documentation says: schema, types, strict compilation."""
    client = Typescript(tmp_path_factory.mktemp("client") / "typescript")
    schema = client.folder / "openapi.json"
    site.manage("spectacular", "--format", "openapi-json", "--file", os.fspath(schema))
    client.npm("ci", "--prefer-offline")
    client.npm("run", "generate")
    client.npm("run", "build")
    front_end.RequestHandlerClass = partial(Front, directory=os.fspath(client.folder))
    return client
