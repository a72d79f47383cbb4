"""An image service over real HTTP with configurable responses."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from myometrics_testing.waiting import PATIENCE


def row(user_id, upload_id="5e9b6c1e-0000-4000-8000-000000000001", **fields):
    """A row of the service's list."""
    return {
        "user_id": str(user_id),
        "upload_id": upload_id,
        "upload_time": "2026-01-05T10:00:00",
        "original_filename": "scan.jpg",
        "file_type": "image/jpeg",
        "status": "processed",
        "file_upload_time": "2026-01-05T10:00:01",
        "diagnosis": "Normal",
        "confidence_score": 0.97,
        **fields,
    }


class ImageServiceDouble(ThreadingHTTPServer):
    """Responds to ``GET /uploads`` with :attr:`answer`, a function of the request handler."""

    daemon_threads = True
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[dict[str, str]] = []
        self.released = threading.Event()
        self.answer: Callable[[Any], None] = lambda handler: handler.send_list([])

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def lists(self, *rows):
        self.answer = lambda handler: handler.send_list(list(rows))

    def responds(self, status, body, content_type="application/json"):
        self.answer = lambda handler: handler.send_body(status, body, content_type)

    def hangs(self):
        self.answer = lambda handler: self.released.wait(PATIENCE)

    def resets(self):
        self.answer = lambda handler: handler.reset()

    def handle_error(self, request, client_address):
        """Don.t print expected errors."""


class _Handler(BaseHTTPRequestHandler):
    server: ImageServiceDouble

    def do_GET(self):
        self.server.requests.append({"path": self.path, **dict(self.headers.items())})
        self.server.answer(self)

    def send_list(self, rows, **headers):
        body = json.dumps({"uploads": rows, "count": len(rows)}).encode()
        self.send_body(200, body, "application/json", **headers)

    def send_body(self, status, body, content_type, **headers):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_part(self, body, promised):
        self.send_response(200)
        self.send_header("Content-Length", str(promised))
        self.end_headers()
        self.wfile.write(body)

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def log_message(self, *args):
        """Don.t log."""


@contextmanager
def running_image_service():
    server = ImageServiceDouble()
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
