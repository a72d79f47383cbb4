"""A site with checkpoints, for tests: its key, its storage and witnesses."""

from __future__ import annotations

from contextlib import contextmanager
from threading import Thread

from myometrics_audit.checkpoints.witness_server import Witness, make_server
from myometrics_audit.signing.notes import generate_key

ORIGIN = "clinic.example/audit-log"
KEY = generate_key(ORIGIN)


def configure_checkpoints(settings, folder, key=KEY, **options):
    """Sign checkpoints with ``key``, and store them in a local folder."""
    settings.MYOMETRICS_AUDIT = {
        "ALLOW_FLUSH": True,
        "CHECKPOINT_KEY": key.text,
        **options,
    }
    storage = "django.core.files.storage.FileSystemStorage"
    settings.STORAGES = {
        **settings.STORAGES,
        "audit_checkpoints": {"BACKEND": storage, "OPTIONS": {"location": str(folder)}},
    }


@contextmanager
def serve_witness(folder, logs=(KEY.verifier,), name="witness.example/w1"):
    """A witness over HTTP: its public key, and its URL."""
    key = generate_key(name, is_witness=True)
    folder.mkdir(exist_ok=True)
    server = make_server(Witness(key, logs, folder), "127.0.0.1", 0)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield key.verifier, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
