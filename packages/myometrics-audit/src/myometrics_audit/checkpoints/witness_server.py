"""A witness as in C2SP tlog-witness: it cosigns the checkpoints of configured logs.

It remembers the newest checkpoint of each log, and signs only checkpoints that continue it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock

from ..signing.merkle import is_consistent
from ..signing.notes import InvalidNote, SigningKey, TreeHead, VerifierKey, split_note, verified_by

MAX_BODY_BYTES = 64 * 1024
MAX_PROOF_LINES = 63
TIMEOUT_SECONDS = 30
OLD_SIZE = re.compile(r"old (0|[1-9][0-9]{0,18})")


@dataclass(frozen=True)
class Answer:
    """A response of the witness."""

    status: int
    text: str
    content_type: str = "text/plain; charset=utf-8"


class Witness:
    """The witness: its key, the public keys of the logs, and a folder with their newest heads."""

    def __init__(self, key: SigningKey, logs: Iterable[VerifierKey], folder: Path) -> None:
        self._key = key
        self._logs: dict[str, list[VerifierKey]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)
        self._folder = folder
        self._lock = Lock()

    def add_checkpoint(self, body: str) -> Answer:
        """Handle the body of ``add-checkpoint``."""
        try:
            old_size, proof, note = _parse(body)
            text, _ = split_note(note)
            head = TreeHead.parse(text)
        except InvalidNote as error:
            return Answer(400, f"{error}\n")
        keys = self._logs.get(head.origin)
        if keys is None:
            return Answer(404, "this log is unknown\n")
        try:
            signed = verified_by(note, keys)
        except InvalidNote:
            signed = []
        if not signed:
            return Answer(403, "no key of this log has signed this\n")
        if old_size > head.size:
            return Answer(400, "the old size is larger than the new one\n")
        with self._lock:
            return self._cosign(head, text, old_size, proof)

    def _cosign(self, head: TreeHead, text: str, old_size: int, proof: list[bytes]) -> Answer:
        known = self._newest(head.origin)
        size, root = (known.size, known.root) if known else (0, b"")
        if old_size != size:
            return Answer(409, f"{size}\n", "text/x.tlog.size")
        if size == head.size and known and root != head.root:
            return Answer(409, f"{size}\n", "text/x.tlog.size")
        is_continued = is_consistent(size, root, head.size, head.root, proof) if size else not proof
        if not is_continued:
            return Answer(422, "the proof is wrong\n")
        self._remember(head)
        return Answer(200, self._key.sign(text, at=int(time.time())).line)

    def _newest(self, origin: str) -> TreeHead | None:
        try:
            stored = json.loads(self._place(origin).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return TreeHead(stored["origin"], stored["size"], bytes.fromhex(stored["root"]))

    def _remember(self, head: TreeHead) -> None:
        """Store the head; call it before the signature is returned."""
        stored = {"origin": head.origin, "size": head.size, "root": head.root.hex()}
        descriptor, temporary = tempfile.mkstemp(dir=self._folder, prefix=".")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(stored, file)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self._place(head.origin))
        except BaseException:  # such as a full disk
            Path(temporary).unlink(missing_ok=True)
            raise
        if hasattr(os, "O_DIRECTORY"):  # not on Windows
            folder = os.open(self._folder, os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _place(self, origin: str) -> Path:
        return self._folder / f"{hashlib.sha256(origin.encode()).hexdigest()}.json"


def _parse(body: str) -> tuple[int, list[bytes], str]:
    """Return the old size, the proof and the note; raise ``InvalidNote``."""
    head, separator, note = body.partition("\n\n")
    first, *lines = head.split("\n")
    match = OLD_SIZE.fullmatch(first)
    if match is None or not separator or len(lines) > MAX_PROOF_LINES:
        raise InvalidNote("not a request of a checkpoint")
    try:
        proof = [base64.b64decode(line, validate=True) for line in lines]
    except ValueError as error:
        raise InvalidNote("the proof is not base64") from error
    if any(len(node) != 32 for node in proof):
        raise InvalidNote("a node of the proof has not 32 bytes")
    return int(match[1]), proof, note


def make_server(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """Return an HTTP server of the witness; put a proxy with TLS in front of it."""

    class Handler(BaseHTTPRequestHandler):
        timeout = TIMEOUT_SECONDS

        def do_POST(self) -> None:
            self._respond(self._answer())

        def _answer(self) -> Answer:
            length = self.headers.get("Content-Length", "")
            if self.path != "/add-checkpoint":
                return Answer(404, "not found\n")
            if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                return Answer(413, "the body is too large\n")
            try:
                body = self.rfile.read(int(length)).decode()
            except UnicodeDecodeError:
                return Answer(400, "the body is not text\n")
            return witness.add_checkpoint(body)

        def _respond(self, answer: Answer) -> None:
            content = answer.text.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    return ThreadingHTTPServer((host, port), Handler)
