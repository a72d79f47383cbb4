"""Programs of outsiders that verify the audit log: openssl, and that of the documentation."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

GO_ENVIRONMENT = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""}
TSA_CONFIG = """
[tsa]
default_tsa = config
[config]
serial = {folder}/serial
crypto_device = builtin
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_chain = no
"""


def build_verifier(source: Path, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Build the Go program ``source`` in ``folder``; return a function that runs it."""
    environment = {**os.environ, **GO_ENVIRONMENT, "GOCACHE": str(folder / "cache")}
    command = ["go", "build", "-o", str(folder / "verify"), str(source)]
    subprocess.run(command, check=True, env=environment, capture_output=True)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "verify"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


def make_authority(folder: Path) -> Callable[[bytes], bytes]:
    """Make a time-stamping authority of openssl: a function that stamps a query.

    Its certificate is ``ca.pem`` in the folder.
    """
    (folder / "serial").write_text("01\n")
    (folder / "tsa.cnf").write_text(TSA_CONFIG.format(folder=folder))
    openssl(
        *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tsa"),
        *("-keyout", folder / "key.pem", "-out", folder / "ca.pem"),
        *("-addext", "extendedKeyUsage=critical,timeStamping"),
    )

    one_at_a_time = Lock()

    def stamp(query: bytes) -> bytes:
        with one_at_a_time:
            (folder / "query").write_bytes(query)
            openssl(
                *("ts", "-reply", "-config", folder / "tsa.cnf", "-queryfile", folder / "query"),
                *("-signer", folder / "ca.pem", "-inkey", folder / "key.pem"),
                *("-out", folder / "reply"),
            )
            return (folder / "reply").read_bytes()

    return stamp


def openssl(*arguments: object) -> str:
    """Return the output of openssl; raise if it fails."""
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, check=True
    ).stdout


@contextmanager
def serve(respond: Callable[[str, bytes], tuple[int, bytes]]) -> Iterator[str]:
    """Run an HTTP server, and yield its URL. ``respond`` answers path and body of a POST."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = respond(self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
